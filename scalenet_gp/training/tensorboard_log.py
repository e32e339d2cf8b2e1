"""The TensorBoard log of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.training.memory import resident_bytes
from scalenet_gp.training.options import LogOptions
from scalenet_gp.training.step_picture import training_picture
from scalenet_gp.training.step_result import StepResult
from scalenet_gp.training.tensorboard_graph import graph_def

if TYPE_CHECKING:  # TensorBoard is slow to import
    from tensorboard.compat.proto.event_pb2 import Event
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardLog"]

_GIB = 2**30


class TensorBoardLog:
    """Writes scalars and pictures of a run to TensorBoard; also its graph, config, scores and hyperparameters.

    The folder is made with the first entry. If a run resumes from an earlier iteration than it had logged, the later
    entries are taken back: no iteration is shown twice.

    Scalars are left out if they are not finite or not known:

    - ``loss/total`` and ``loss/<output>``;
    - ``loss/<output>/<class>``, with the images, for each class that is annotated in the batch, if the loss can be
      computed for a single class;
    - ``learning_rate``, ``gradient_norm``, ``update_ratio``;
    - ``skipped``: number of skipped steps in all;
    - ``samples_per_second``, and ``waiting``, the share of the time spent waiting for data: both since the last entry;
    - ``memory/process``: memory of this process without its workers, GiB;
    - ``memory/device``: the most memory that tensors have taken on the GPU so far, GiB.

    Args:
        folder: folder of TensorBoard's event files; ``tensorboard --logdir`` shows it.
        options: how often scalars and images are written.
        intensities: raw values that are shown as black and as white.
        channels: names of the channels of outputs. Channels of other outputs are numbered.

    Raises:
        ArgumentError: black equals white, or two channels of an output have one name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     log = TensorBoardLog(folder, LogOptions(scalars_every=100), channels={"output": ("mito",)})
        ...     log.write_scores(100, {"output": {"mito": {"dice": 0.8}}})
        ...     log.close()
        >>> log.scalars_due(200)
        True
    """

    def __init__(
        self,
        folder: str | Path,
        options: LogOptions | None = None,
        *,
        intensities: tuple[float, float] = (0.0, 1.0),
        channels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        if intensities[0] == intensities[1]:
            raise ArgumentError(f"intensities={intensities} are shown as black and white: they have to differ")
        for output, names in (channels or {}).items():
            if len(set(names)) < len(names):
                raise ArgumentError(f"the channels of {output!r} are {', '.join(names)}: each needs another name")
        self.folder = Path(folder)
        self.options = options or LogOptions()
        self.intensities = intensities
        self.channels = {output: tuple(names) for output, names in (channels or {}).items()}
        self._open_writer: SummaryWriter | None = None
        self._first: int | None = None  # iteration that this log was told of
        self._taken_back = False
        self._samples = 0
        self._seconds = self._waited = 0.0

    def scalars_due(self, iteration: int) -> bool:
        """Return whether scalars are written after ``iteration`` batches."""
        return iteration % self.options.scalars_every == 0

    def images_due(self, iteration: int, last: bool = False) -> bool:
        """Return whether images are written after ``iteration`` batches; ``last`` if the run ends with it."""
        every = self.options.images_every
        return every is not None and (iteration == 1 or last or iteration % every == 0)

    def write(self, result: StepResult, last: bool = False) -> None:
        """Write the scalars and images that are due. Call it after every step.

        Args:
            result: the result of the step.
            last: True if the run ends with it.
        """
        if self._first is None:
            self._first = result.iteration
        self._samples += result.samples
        self._seconds += result.seconds
        self._waited += result.waited
        if self.scalars_due(result.iteration):
            self._write_scalars(result)
            self._samples, self._seconds, self._waited = 0, 0.0, 0.0
        if self.images_due(result.iteration, last):
            for name in result.targets:
                self._write_losses_by_class(name, result)
                self._write_picture(name, result)

    def write_scores(self, iteration: int, scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        """Write scores as ``validation/<score>/<output>/<class or group>``, without those that are not finite.

        Args:
            iteration: number of batches that the validated network had learned from.
            scores: scores by name, for each class or group of each output.
        """
        for output, of_classes in scores.items():
            for name, of_class in of_classes.items():
                for score, value in of_class.items():
                    self._write_scalar(f"validation/{score}/{output}/{name}", value, iteration)

    def write_final_scores(self, table: str, iteration: int) -> None:
        """Write the scores of a finished run as ``text/final scores``.

        Args:
            table: a table in Markdown.
            iteration: the last iteration of the run.
        """
        self._writer.add_text("final scores", table, iteration)

    def write_config(self, text: str, iteration: int = 0) -> None:
        """Write a config (YAML) as ``text/config``.

        Args:
            text: the config.
            iteration: the iteration from which the run uses it.
        """
        self._writer.add_text("config", f"```yaml\n{text.rstrip()}\n```", iteration)

    def write_graph(self, net: LeibNet, plan: Plan) -> None:
        """Write the nodes of ``net`` that run for ``plan``, with the shapes (B, C, Z, Y, X) of their outputs."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._add_event(Event(graph_def=graph_def(net, plan).SerializeToString()))

    def write_hparams(
        self, hparams: Mapping[str, bool | int | float | str], metrics: Mapping[str, float], iteration: int
    ) -> None:
        """Write a run's hyperparameters with its final metrics, to compare runs. Call it at the end of a run.

        Args:
            hparams: hyperparameters by name, plain values.
            metrics: a few metrics by name, as each is written as ``final/<name>`` too and so has a chart of its own.
                Those that are not finite are left out.
            iteration: the last iteration of the run.
        """
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard.summary import hparams as hparams_summaries

        final = {f"final/{name}": value for name, value in metrics.items() if math.isfinite(value)}
        for summary in hparams_summaries(dict(hparams), final):
            self._add_event(Event(summary=summary))
        for tag, value in final.items():
            self._write_scalar(tag, value, iteration)

    def flush(self) -> None:
        """Bring to the disk all entries so far."""
        if self._open_writer is not None:
            self._open_writer.flush()

    def close(self) -> None:
        """Bring all entries to the disk and close the file. Later entries go to another file of the same folder."""
        if self._open_writer is not None:
            self._open_writer.close()
            self._open_writer = None

    def _write_scalars(self, result: StepResult) -> None:
        values: dict[str, float | None] = {
            "loss/total": result.loss,
            **{f"loss/{name}": loss for name, loss in result.losses.items()},
            "learning_rate": result.learning_rate,
            "gradient_norm": result.update.gradient_norm,
            "update_ratio": result.update.update_ratio,
            "skipped": result.skipped,
            "samples_per_second": self._samples / self._seconds if self._seconds > 0 else None,
            "waiting": self._waited / self._seconds if self._seconds > 0 else None,
            "memory/process": resident_bytes() / _GIB,
            "memory/device": _device_memory(next(iter(result.outputs.values()))),
        }
        for tag, value in values.items():
            self._write_scalar(tag, value, result.iteration)

    def _write_losses_by_class(self, name: str, result: StepResult) -> None:
        """Write the loss of an output for each class alone; none, if the loss takes no single class."""
        annotated = (result.masks[name] > 0).transpose(0, 1).flatten(1).any(dim=1).tolist()
        names = self.channels.get(name) or map(str, range(len(annotated)))
        losses = {}
        for index, of_class in enumerate(names):
            if annotated[index]:
                try:
                    with torch.no_grad():
                        loss = result.loss_of_class(name, index)
                except ValueError:  # a loss of exclusive classes, or a prediction that is not finite
                    return
                losses[of_class] = loss
        for of_class, loss in losses.items():
            self._write_scalar(f"loss/{name}/{of_class}", loss.item(), result.iteration)

    def _write_picture(self, name: str, result: StepResult) -> None:
        from matplotlib.image import imsave  # slow to import
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        picture = training_picture(name, result, self.channels.get(name, ()), self.intensities)
        file = BytesIO()
        # SummaryWriter.add_image spends nine tenths of its time on making the file smaller
        imsave(file, picture, format="png", pil_kwargs={"compress_level": 1})
        height, width, channels = picture.shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=file.getvalue())
        value = Summary.Value(tag=f"raw, target, prediction, mask/{name}", image=image)
        self._add_event(Event(step=result.iteration, summary=Summary(value=[value])))

    def _write_scalar(self, tag: str, value: float | None, iteration: int) -> None:
        if value is not None and math.isfinite(value):
            self._writer.add_scalar(tag, value, iteration)

    def _add_event(self, event: Event) -> None:
        self._writer._get_file_writer().add_event(event)

    @property
    def _writer(self) -> SummaryWriter:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from torch.utils.tensorboard import SummaryWriter

        if self._open_writer is None:
            # the queue is longer than a step's entries, so that training does not wait for the disk
            self._open_writer = SummaryWriter(str(self.folder), max_queue=1000)
        if self._first is not None and not self._taken_back:
            self._taken_back = True
            # like SummaryWriter's purge_step, which is not known yet when the config is written
            self._add_event(Event(step=self._first, session_log=SessionLog(status=SessionLog.START)))
        return self._open_writer


def _device_memory(tensor: Tensor) -> float | None:
    """Return the most memory that tensors have taken on the GPU of ``tensor``, GiB; None on the processor."""
    return torch.cuda.max_memory_allocated(tensor.device) / _GIB if tensor.is_cuda else None
