"""The shipped config for real serial sections, from training to scores, cut short."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.config.config import Config
from scalenet_gp.pipelines.data.dataset import Dataset
from scalenet_gp.pipelines.evaluation.evaluate_job import evaluate
from scalenet_gp.pipelines.prediction import predict
from scalenet_gp.pipelines.training.train_job import train
from scalenet_gp.volumes.storage import open_array
from tests.pipelines.conftest import CPU, options_with
from tests.scalenet_gp.volumes.ome_zarr_files import VNC

CONFIG = Path(__file__).parents[3] / "pipelines" / "configs" / "vnc.yaml"

pytestmark = pytest.mark.skipif(not VNC.exists(), reason=f"no data at {VNC}")


@pytest.mark.usefixtures("warm_workers")
def test_sections_of_fractional_voxels_from_training_to_scores(tmp_path):
    config = Config.read(CONFIG)
    small = (Fraction(100), Fraction("294.4"), Fraction("294.4"))
    training = config.training.model_copy(update={"iterations": 2, "batch_size": 2, "output_shape": small})
    config = config.model_copy(
        update={"training": training, "prediction": options_with(config, block_shape=small, stored="float32")}
    )
    checkpoint = train(config, VNC, tmp_path / "run", "cpu")
    # two sections; offset and size along y and x are whole voxels of 18.4 nm
    region = Region(begin=(550, "644", "478.4"), end=(650, "938.4", "772.8"))
    prediction = predict(config, VNC, checkpoint, tmp_path / "prediction.zarr", region=region, workers=CPU)
    scores = evaluate(config, VNC, prediction, region=region)

    fine = open_array(prediction / "1_output" / "s0")[:]
    assert fine.shape == (4, 2, 64, 64)
    # by hand: sections 11 and 12; the crop begins at voxel 128 along y and 96 along x, the region at 140 and 104
    for index, name in enumerate(config.data.class_names):
        label = VNC / "recon-1" / "labels" / "groundtruth" / "crop1" / name / "s0"
        truth = open_array(label)[11:13, 12:76, 8:72] > 0
        predicted = fine[index] >= config.evaluation.threshold
        counted = scores.classes["1_output"][name]
        assert counted.true_positive == np.count_nonzero(truth & predicted)
        assert counted.false_positive == np.count_nonzero(~truth & predicted)
        assert counted.false_negative == np.count_nonzero(truth & ~predicted)


def test_the_world_counts_in_fifths_of_a_nanometre():
    config = Config.read(CONFIG)
    dataset = Dataset.open(VNC, config, config.build_network())
    assert dataset.world.unit == Fraction(1, 5)
    evaluated = dataset.annotated(config.evaluation.region)
    assert dataset.world.size_in_nm(evaluated.shape)[0] == 150
    assert evaluated.intersect(dataset.annotated(config.training.region)).empty
