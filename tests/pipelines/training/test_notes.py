"""Notes before training: batch normalization by few voxels, and networks whose blocks do not agree."""

import logging

import pytest

from scalenet_gp import build_scalenet
from scalenet_gp.pipelines.training.notes import training_notes
from scalenet_gp.pipelines.training.train_job import train
from tests.pipelines.conftest import tiny_config


def scalenet(**arguments):
    return build_scalenet(
        [{"top_resolution": (nm,) * 2, "base_nc": 2, "norm_layer": None, **arguments} for nm in (32, 8)]
    )


def test_batch_normalization_by_few_voxels_of_one_sample():
    net = scalenet(norm_layer="batch")
    small = net.smallest_plan
    (note,) = training_notes(net, small, samples=1)
    assert "0_bottleneck normalizes it by its own 100 voxels" in note
    large = net.plan({name: roi * 400 for name, roi in small.outputs.items()})
    assert training_notes(net, large, samples=1) == training_notes(net, small, samples=2) == []
    only = net.plan({"0_output": large.outputs["0_output"]})
    assert training_notes(net, only, samples=1) == []


@pytest.mark.parametrize(
    ("arguments", "nodes"),
    [
        ({"norm_layer": "group"}, "0_in_conv_0, 0_in_conv_1, 0_bottleneck and 9 more"),
        ({"bottleneck": "transformer"}, "0_bottleneck_transformer, 1_bottleneck_transformer"),
    ],
)
def test_networks_whose_blocks_do_not_agree(arguments, nodes):
    net = scalenet(**arguments)
    (note,) = training_notes(net, net.smallest_plan, samples=1)
    assert note.startswith(f"{nodes} of ScaleNet depend on the whole of their input")


def test_a_plain_network_needs_none():
    net = scalenet(residual=True, dropout_prob=0.1)
    assert training_notes(net, net.smallest_plan, samples=1) == []


def test_a_run_begins_with_them(volume, tmp_path, caplog):
    config = tiny_config(network__subnets__1__norm_layer="instance", training__iterations=1)
    with caplog.at_level(logging.WARNING, "scalenet_gp"):
        train(config, volume, tmp_path / "run", "cpu", "none")
    assert [record.message for record in caplog.records if "depend on the whole" in record.message]
