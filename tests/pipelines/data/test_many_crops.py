"""All crops of a challenge in one run: few are open at a time, and the first batch comes at once."""

import time

import gunpowder as gp

from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.pipelines.data import Datasets, survey, training_chain
from scalenet_gp.training import resident_bytes
from tests.pipelines.conftest import tiny_config
from tests.pipelines.data.challenge_tree import CLASSES, EDGE, SIZES, write_challenge

ALL = 289


def test_memory_and_the_first_batch_do_not_depend_on_the_number_of_crops(tmp_path):
    write_challenge(tmp_path, ALL, datasets=6)
    config = tiny_config(
        data__sources=[{"challenge": "."}],
        data__classes=list(CLASSES),
        data__split={"share": 0.1, "by": "dataset"},
        training__region=None,
        training__overhang=None,
        evaluation={},
        validation={"every": 2, "samples": 4},
    )
    net = config.build_network()
    begun, before = time.process_time(), resident_bytes()
    datasets = Datasets.find(tmp_path, config, net)
    found = survey(datasets)
    found.check()
    counts = [len(datasets.of(use)) for use in ("train", "validate", "evaluate")]
    assert counts in ([ALL - 48, 48, 0], [ALL - 49, 49, 0])
    assert len(found.lines()) <= 10
    most = sum((EDGE * SIZES[int(source.name[4:]) % 6 % 3 - 1] / 4.5) ** 3 for source in datasets.of("train"))
    assert most / 4 < found.annotated <= most
    assert "`scalenet-gp check` counts the shares of classes" in found.lines()[1]
    chain = training_chain(datasets)
    plan = net.plan(datasets.boxes(config.training.output_shape))
    arrays = dict(datasets.first.arrays.request(plan).array_specs)
    with build_chain(chain) as pipeline:
        pipeline.request_batch(gp.BatchRequest(arrays, random_seed=0))
        assert time.process_time() - begun < 30
        for seed in range(1, 30):
            pipeline.request_batch(gp.BatchRequest(arrays, random_seed=seed))
        assert len(chain.output._opened) == chain.output.most_open == 16
        assert resident_bytes() - before < 2**29
