"""A prediction is the same for evaluation and for pictures, whatever it is stored as."""

import gunpowder as gp
import numpy as np
import pytest

from scalenet_gp.nodes.chains.building import build_chain
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.data.predicted_sources import predicted_sources
from scalenet_gp.pipelines.evaluation.evaluate_job import evaluate
from scalenet_gp.volumes.image_layout import ImageLayout
from scalenet_gp.volumes.multiscale_array_writer import MultiscaleArrayWriter, create_image
from tests.pipelines.conftest import CLASSES, CORNER, EVALUATED, OUTPUTS, VOXEL, tiny_config, truth_at, write_prediction


def values_of(factor):
    """Probabilities that are off the threshold of one half by more than what storing them changes."""
    truth, _ = truth_at(factor)
    drawn = np.random.default_rng(factor).random(truth.shape)
    present = np.where(drawn < 0.1, 1 - truth, truth)
    return np.where(present, 0.55, 0.05) + 0.4 * drawn


VALUES = {name: values_of(factor) for name, factor in OUTPUTS.items()}


def write_stored(path, stored):
    for name, factor in OUTPUTS.items():
        values = VALUES[name].astype(np.float32)
        corner = tuple(CORNER + VOXEL * bounds[0] for bounds in EVALUATED)
        layout = ImageLayout((VOXEL * factor,) * 3, corner, values.shape[1:], CLASSES, stored)
        create_image(path / name, layout)
        MultiscaleArrayWriter.open(path / name).write((0, 0, 0), values)
    return path


@pytest.mark.parametrize(("stored", "error"), [("uint8", 0.5 / 255), ("float16", 2.0**-12), ("float32", 0)])
def test_values_come_as_probabilities(volume, tmp_path, stored, error):
    config = tiny_config()
    net = config.build_network()
    dataset = Dataset.open(volume, config, net)
    keys, roi = dataset.arrays.predictions, dataset.annotated(config.evaluation.region)
    chain = tuple(predicted_sources(dataset, write_stored(tmp_path / "p", stored), keys, roi)) + gp.MergeProvider()
    with build_chain(chain) as pipeline:
        batch = pipeline.request_batch(gp.BatchRequest({key: gp.ArraySpec(roi=roi) for key in keys.values()}))
    for name, key in keys.items():
        assert batch[key].data.dtype == np.float32
        assert abs(batch[key].data - VALUES[name]).max() <= error + 1e-7


def test_scores_do_not_depend_on_how_a_prediction_is_stored(volume, tmp_path):
    config = tiny_config()
    scores = evaluate(config, volume, write_prediction(tmp_path / "plain", VALUES))
    assert all(abs(values - 0.5).min() > 0.04 for values in VALUES.values())
    for stored in ("uint8", "float16", "float32"):
        assert evaluate(config, volume, write_stored(tmp_path / stored, stored)) == scores
