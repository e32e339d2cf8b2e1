"""What TensorBoard shows of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import Plan
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.training.memory import resident_bytes
from scalenet_gp.training.options import LogOptions
from scalenet_gp.training.step_picture import training_picture
from scalenet_gp.training.step_result import StepResult
from scalenet_gp.training.tensorboard_graph import graph_def

__all__ = ["TensorBoardLog"]

_GIB = 2**30


class TensorBoardLog:
    """Scalars and pictures of a run as it goes; its graph, config, scores and hyper-parameters.

    Nothing is written, and no folder made, before there is something to write. Where a run goes on from an earlier
    iteration than it had logged, what was logged beyond is taken back: no iteration is shown twice.

    Scalars, left out where they are not finite or not known:

    - ``loss/total``, ``loss/<output>``; and, as they take longer, with the images alone: ``loss/<output>/<class>`` of
      every class of which anything is annotated, if the loss can be computed of one class;
    - ``learning_rate``, ``gradient_norm``, ``update_ratio``;
    - ``skipped``: steps that were dropped, in all;
    - ``samples_per_second``, and ``waiting``, the share of time in which data were waited for: both since they were
      last written;
    - ``memory/process``: GiB that this process, without its workers, has in memory; ``memory/device``:
      GiB that tensors took up on the GPU at most so far.

    Args:
        folder: where TensorBoard's event files go; ``tensorboard --logdir`` shows it.
        options: how often scalars and images are written.
        intensities: of the raw data, those that are shown as black and white.
        classes: names of the channels of every output that has as many; those of other outputs are numbered.

    Raises:
        ValueError: black that is white, or two classes of one name.
    """

    def __init__(
        self,
        folder: str | Path,
        options: LogOptions | None = None,
        *,
        intensities: tuple[float, float] = (0.0, 1.0),
        classes: Sequence[str] = (),
    ) -> None:
        if intensities[0] == intensities[1]:
            raise ArgumentError(f"intensities are those of black and white, which cannot both be {intensities[0]}")
        if len(set(classes)) < len(classes):
            raise ArgumentError(f"every class needs a name of its own, not {', '.join(classes)}")
        self.folder = Path(folder)
        self.options = options or LogOptions()
        self.intensities = intensities
        self.classes = tuple(classes)
        self._open_writer: SummaryWriter | None = None
        self._first: int | None = None  # of the iterations that were learned from since this log was made
        self._taken_back = False
        self._samples = 0
        self._seconds = self._waited = 0.0

    def scalars_due(self, iteration: int) -> bool:
        """Whether scalars are written after ``iteration`` batches."""
        return iteration % self.options.scalars_every == 0

    def write(self, record: StepResult) -> None:
        """Write what is due; to be called after every batch."""
        if self._first is None:
            self._first = record.iteration
        self._samples += record.samples
        self._seconds += record.seconds
        self._waited += record.waited
        if self.scalars_due(record.iteration):
            self._write_scalars(record)
            self._samples, self._seconds, self._waited = 0, 0.0, 0.0
        if record.iteration % self.options.images_every == 0:
            for name in record.outputs:
                self._write_losses_by_class(name, record)
                self._write_picture(name, record)

    def write_scores(self, iteration: int, scores: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
        """Write scores as ``validation/<score>/<output>/<class>``; what is not finite is left out.

        Args:
            iteration: that the network was judged after.
            scores: of every output, of every class, by name.
        """
        for output, of_classes in scores.items():
            for name, of_class in of_classes.items():
                for score, value in of_class.items():
                    self._write_scalar(f"validation/{score}/{output}/{name}", value, iteration)

    def write_config(self, text: str, iteration: int = 0) -> None:
        """Write a config (YAML) as ``text/config``.

        Args:
            text: of the config.
            iteration: that the run goes on from with this config.
        """
        self._writer.add_text("config", f"```yaml\n{text.rstrip()}\n```", iteration)

    def write_graph(self, net: LeibNet, plan: Plan) -> None:
        """Write the nodes of ``net`` that run for ``plan``, with the shapes (B, C, Z, Y, X) of what they make."""
        self._add_event(Event(graph_def=graph_def(net, plan).SerializeToString()))

    def write_hparams(
        self, hparams: Mapping[str, bool | int | float | str], metrics: Mapping[str, float], iteration: int
    ) -> None:
        """Write a run's hyper-parameters with what came of them, for comparing runs; at the end of a run.

        Args:
            hparams: plain values by name.
            metrics: by name, written as ``final/<name>`` too; those that are not finite are left out.
            iteration: that the run ended with.
        """
        final = {f"final/{name}": value for name, value in metrics.items() if math.isfinite(value)}
        for summary in hparams_summaries(dict(hparams), final):
            self._add_event(Event(summary=summary))
        for tag, value in final.items():
            self._write_scalar(tag, value, iteration)

    def flush(self) -> None:
        """Have on disk what was written so far, as a checkpoint has."""
        if self._open_writer is not None:
            self._open_writer.flush()

    def close(self) -> None:
        """Write what is waiting to be written. What comes later goes to another file of the same folder."""
        if self._open_writer is not None:
            self._open_writer.close()
            self._open_writer = None

    def _write_scalars(self, record: StepResult) -> None:
        values: dict[str, float | None] = {
            "loss/total": record.loss,
            **{f"loss/{name}": loss for name, loss in record.losses.items()},
            "learning_rate": record.learning_rate,
            "gradient_norm": record.step.gradient_norm,
            "update_ratio": record.step.update_ratio,
            "skipped": record.skipped,
            "samples_per_second": self._samples / self._seconds if self._seconds > 0 else None,
            "waiting": self._waited / self._seconds if self._seconds > 0 else None,
            "memory/process": resident_bytes() / _GIB,
            "memory/device": _device_memory(next(iter(record.outputs.values()))),
        }
        for tag, value in values.items():
            self._write_scalar(tag, value, record.iteration)

    def _write_losses_by_class(self, name: str, record: StepResult) -> None:
        """The loss of an output for each class alone; of none, if it is not that of classes one by one."""
        annotated = (record.masks[name] > 0).transpose(0, 1).flatten(1).any(dim=1).tolist()
        names = self._names(len(annotated)) or map(str, range(len(annotated)))
        losses = {}
        for index, of_class in enumerate(names):
            if annotated[index]:
                try:
                    with torch.no_grad():
                        loss = record.loss_of_class(name, index)
                except ValueError:  # that of exclusive classes, say, or a prediction that is not finite
                    return
                losses[of_class] = loss
        for of_class, loss in losses.items():
            self._write_scalar(f"loss/{name}/{of_class}", loss.item(), record.iteration)

    def _write_picture(self, name: str, record: StepResult) -> None:
        from matplotlib.image import imsave  # slow to import

        names = self._names(record.outputs[name].shape[1])
        picture = training_picture(name, record, names, self.intensities)
        file = BytesIO()
        # nine tenths of the time that SummaryWriter.add_image takes are for a smaller file
        imsave(file, picture, format="png", pil_kwargs={"compress_level": 1})
        height, width, channels = picture.shape
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=file.getvalue())
        value = Summary.Value(tag=f"raw, target, prediction, mask/{name}", image=image)
        self._add_event(Event(step=record.iteration, summary=Summary(value=[value])))

    def _names(self, channels: int) -> tuple[str, ...]:
        """Of the channels of an output; none if the classes are not its."""
        return self.classes if len(self.classes) == channels else ()

    def _write_scalar(self, tag: str, value: float | None, iteration: int) -> None:
        if value is not None and math.isfinite(value):
            self._writer.add_scalar(tag, value, iteration)

    def _add_event(self, event: Event) -> None:
        self._writer._get_file_writer().add_event(event)

    @property
    def _writer(self) -> SummaryWriter:
        if self._open_writer is None:
            # a queue longer than what is written at once, so that training does not wait for the disk
            self._open_writer = SummaryWriter(str(self.folder), max_queue=1000)
        if self._first is not None and not self._taken_back:
            self._taken_back = True
            # SummaryWriter's purge_step, which would have to be known before the config is written
            self._add_event(Event(step=self._first, session_log=SessionLog(status=SessionLog.START)))
        return self._open_writer


def _device_memory(tensor: Tensor) -> float | None:
    """GiB that tensors have taken up at most on the GPU that ``tensor`` is on."""
    return torch.cuda.max_memory_allocated(tensor.device) / _GIB if tensor.is_cuda else None
