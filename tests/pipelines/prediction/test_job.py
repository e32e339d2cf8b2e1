"""A job goes into a file and comes back, and two jobs are told apart by what changes voxels."""

import json

import pytest

from scalenet_gp.errors import ArgumentError, ConfigError
from scalenet_gp.pipelines.config import Region
from scalenet_gp.pipelines.prediction.job import NetworkFile, PredictionJob
from tests.pipelines.conftest import tiny_config


@pytest.fixture
def job(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(b"weights")
    return PredictionJob(
        config=tiny_config(),
        volume="s3://bucket/volume.zarr",
        networks=(NetworkFile.of(checkpoint, 2),),
        output=tmp_path / "out.zarr",
        region=Region(begin=(0, 0, "9/2"), end=(9, 9, 18)),
    )


def test_a_job_is_the_same_after_a_file(job):
    job.folder.path.mkdir()
    job.write()
    assert PredictionJob.read(job.folder.job) == job
    job.folder.job.write_text("{}")
    with pytest.raises(ValueError, match=r"job\.json is not a job of a prediction: it has no version"):
        PredictionJob.read(job.folder.job)


def test_a_job_with_a_wrong_field_is_refused_in_words(job):
    job.folder.path.mkdir()
    job.write()
    job.folder.job.write_text(json.dumps({**json.loads(job.folder.job.read_text()), "thickness": "wide", "more": 1}))
    with pytest.raises(ConfigError, match=r"not a job of a prediction: .*thickness is 'wide': .*no field more; there "):
        PredictionJob.read(job.folder.job)


def test_a_weight_that_is_not_above_zero_is_refused(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"weights")
    with pytest.raises(ArgumentError, match=r"^weight is 0: it has to be greater than 0"):
        NetworkFile.of(tmp_path / "checkpoint", 0)


def test_a_job_of_another_version_is_refused(job):
    job.folder.path.mkdir()
    job.write()
    job.folder.job.write_text(job.folder.job.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ConfigError, match=r"job\.json has format version 2, and only version 1 can be read"):
        PredictionJob.read(job.folder.job)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": tiny_config(prediction__stored="uint8")}, 'prediction.stored: "float32" and "uint8"'),
        ({"region": Region(begin=(0, 0, 0), end=(9, 9, 18))}, "region.begin: "),
        ({"config": tiny_config(network__subnets__0__base_nc=3)}, "network.subnets.0.base_nc: 2 and 3"),
        ({"config": tiny_config(training__seed=9, evaluation__threshold=0.3)}, None),
        ({"thickness": 9}, None),
    ],
)
def test_only_what_changes_voxels_is_a_difference(job, changes, told):
    differences = job.differences(job.model_copy(update=changes))
    assert len(differences) == (told is not None)
    assert all(difference.startswith(told) for difference in differences)


def test_a_checkpoint_is_known_by_what_is_in_it(tmp_path):
    path, kept = tmp_path / "best", tmp_path / "kept"
    path.write_bytes(b"weights")
    file = NetworkFile.of(path)
    assert file.check(kept) == path
    kept.write_bytes(b"weights")
    assert file.check(kept) == kept
    path.write_bytes(b"others")
    assert file.check(kept) == kept
    kept.write_bytes(b"others")
    with pytest.raises(ValueError, match="is not the file that this prediction began with"):
        file.check(kept)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="is gone; the prediction that uses it cannot be resumed"):
        file.check(kept)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        NetworkFile.of(path)
