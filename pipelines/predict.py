"""The prediction job: a region, block by block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import gunpowder as gp
from funlib.geometry import Coordinate, Roi

from scalenet_gp.checkpoint import load_checkpoint
from scalenet_gp.nodes import OmeZarrWrite, Predict
from scalenet_gp.nodes.volumes.location import StrPath
from scalenet_gp.nodes.volumes.storage import create_group
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.config_types import Region
from scalenet_gp.pipelines.dataset import Dataset, array_keys
from scalenet_gp.pipelines.progress import progress_bar
from scalenet_gp.pipelines.running import running

__all__ = ["blocks", "predict"]


def predict(
    config: Config,
    volume: StrPath,
    checkpoint: Path,
    output: Path,
    region: Region | None = None,
    device: str | None = None,
) -> Path:
    """Predict every output of a network over a region, each into an OME-Zarr volume with one channel for each class.

    Args:
        config: the run; says what to read, and the region unless ``region`` is given: that of the evaluation.
        volume: folder, or its URL, that holds the raw data.
        checkpoint: the weights.
        output: zarr group to make, whole or not at all; ``output/2_output`` is the multiscale volume of ``"2_output"``,
            float32.
        region: what to predict.
        device: name of a torch device; the first GPU unless given, the processor where there is none.

    Returns:
        ``output``.

    Raises:
        FileExistsError: there is something at ``output``.
        FileNotFoundError: there is no such volume or checkpoint.
        ValueError: the checkpoint is another network's or was trained with other classes, padding or intensities, the
            config does not fit the volume, or the network does not allow for blocks.
    """
    if output.exists():
        raise FileExistsError(f"{output} exists; choose another output, or remove it")
    net = config.build_network()
    trained = load_checkpoint(checkpoint)
    trained.restore(net, checkpoint)
    learned = trained.metadata.get("learned", config.data.learned)
    if learned != config.data.learned:
        raise ValueError(f"{checkpoint} was trained with {learned}, the config has {config.data.learned}")
    dataset = Dataset.open(volume, config.data, net)
    roi = dataset.roi(region or config.evaluation)
    block = dataset.shape(config.block_shape, "block_shape")

    raw, predictions = array_keys("RAW", net.input_keys), array_keys("PREDICTION", net.output_keys)
    chain = dataset.source(raw)
    for key in raw.values():
        chain += gp.Normalize(key)
    chain = dataset.scaled(chain, raw)
    chain += Predict(net, raw, predictions, device)
    tiles = list(blocks(roi, block))
    whole = [name for name, node in net.nodes.items() if not node.tileable]
    if whole and len(tiles) > 1:
        raise ValueError(
            f"what {', '.join(whole[:3])} of {net.name} make depends on the whole of what they see, so {len(tiles)} "
            "blocks would not fit together; predict one block, or use norm_layer 'batch' and no squeeze_excitation"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"{output.name}.", dir=output.parent) as workshop:
        group = Path(workshop, output.name)
        create_group(group, {"classes": list(config.data.classes), "checkpoint": checkpoint.name})
        chain += OmeZarrWrite(
            {key: group / name for name, key in predictions.items()},
            dict.fromkeys(predictions.values(), roi),
            dataset.world,
            channels=dict.fromkeys(predictions.values(), config.data.classes),
            attributes={"network": net.fingerprint, "checkpoint": checkpoint.name},
        )
        with running(chain) as pipeline, progress_bar("predicting", len(tiles)) as advance:
            for tile in tiles:
                pipeline.request_batch(gp.BatchRequest({key: gp.ArraySpec(roi=tile) for key in predictions.values()}))
                advance("")
        group.rename(output)
    return output


def blocks(roi: Roi, shape: Coordinate) -> Iterator[Roi]:
    """Boxes of ``shape`` that tile ``roi``; the last along an axis is as small as what is left."""
    starts = (range(b, e, s) for b, e, s in zip(roi.begin, roi.end, shape, strict=True))
    for begin in itertools.product(*starts):
        yield Roi(begin, shape).intersect(roi)
