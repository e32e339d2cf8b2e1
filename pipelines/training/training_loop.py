"""The loop of a training run, from its first batch or its newest checkpoint to its end."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, final

import gunpowder as gp

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes import Prefetch, Train
from scalenet_gp.nodes.chains import build_chain, unwrap_errors
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Datasets
from scalenet_gp.pipelines.evaluation import Validation
from scalenet_gp.pipelines.process import Interrupted
from scalenet_gp.pipelines.runs import RunFolder
from scalenet_gp.pipelines.training.learned_from import LearnedFrom
from scalenet_gp.pipelines.training.norm_samples import DrawnInputs
from scalenet_gp.pipelines.training.notes import training_notes
from scalenet_gp.pipelines.training.reports import ReportForm, TrainingReport, training_report
from scalenet_gp.training import LogCallback, NormSamples, ValidationCallback, latest_checkpoint

__all__ = ["TrainingLoop"]

_logger = logging.getLogger(__name__)


@final
class TrainingLoop:
    """Requests batches until the run is done, stops early, or a signal asks it to stop: a context manager.

    Validation, checkpoints, log and report are callbacks of the trainer.

    Args:
        config: the run file.
        datasets: the sources, and a network like the one that is trained.
        samples: the chain that provides batches.
        train: the node that learns from them.
        folder: the folder of the run.
        received: returns the signal that asks to stop, or None.
        learned: the data that the run learns from, for the report.

    Raises:
        ConfigError: the config does not fit the volume.
    """

    def __init__(
        self,
        config: Config,
        datasets: Datasets,
        samples: gp.Pipeline,
        train: Train,
        folder: RunFolder,
        received: Callable[[], signal.Signals | None],
        learned: Sequence[LearnedFrom],
    ) -> None:
        self._learned = learned
        self._config, self._folder, self._received = config, folder, received
        self._trainer, self._arrays = train.trainer, train.arrays
        boxes = datasets.boxes(config.training.output_shape)
        self._request = {key: gp.ArraySpec(roi=boxes[name]) for name, key in self._arrays.outputs.items()}
        self._prefetch = Prefetch(config.training.workers, seed=config.training.seed)
        self._chain = samples + self._prefetch + train
        statistics = config.training.norm_statistics
        if statistics.samples:
            request = gp.BatchRequest(self._request)
            drawn = DrawnInputs(self._prefetch, train, request, statistics, config.training.batch_size)
            self._trainer.norm_samples = NormSamples(drawn, drawn.plan)
        self._validation: Validation | None = None
        if config.validation is not None:
            if self._trainer.process_group.is_main:
                self._validation = Validation.from_config(config, datasets, boxes, self._trainer.loss_of)
            validate = None if self._validation is None else self._validation.validate
            self._trainer.add(ValidationCallback(config.validation, validate))
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._validation is not None:
                stack.enter_context(self._validation)
            self._pipeline = stack.enter_context(build_chain(self._chain))
            self._entered = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        # after an error outside of a step the trainer saves once more, when no more samples can be drawn
        self._trainer.norm_samples = None
        self._entered.__exit__(*error)

    def run(self, form: ReportForm) -> Path:
        """Train until the end of the run.

        Args:
            form: form of the report.

        Returns:
            The newest checkpoint.

        Raises:
            ConfigError: the run has done more iterations than the config says.
            Interrupted: a signal asked to stop.
        """
        iterations, trainer = self._config.training.iterations, self._trainer
        trainer.process_group.check_same("the iteration to resume from", trainer.iteration)
        if trainer.iteration > iterations:
            raise ConfigError(
                f"{self._folder.path} has done {trainer.iteration} iterations already; training.iterations is "
                f"{iterations}"
            )
        if trainer.process_group.is_main:
            self._describe()
        self._prefetch.next_batch = trainer.iteration
        with self._report(form) as report:
            trainer.add(report)
            ended = self._learn()
            trainer.save()
            trainer.process_group.any_rank(False)  # wait until rank 0 has written
            checkpoint = latest_checkpoint(self._folder.checkpoints)
            if isinstance(ended, signal.Signals):
                raise Interrupted(ended, checkpoint)
            report.finish(ended, checkpoint)
        if checkpoint is None:
            raise FileNotFoundError(f"{self._folder.checkpoints} holds no whole checkpoint; somebody removed it")
        return checkpoint

    def _describe(self) -> None:
        """Write the config of the run and, into the log, the network; say what a user should know of the two."""
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._config.write(self._folder.config)
        plan = self._arrays.plan(gp.BatchRequest(self._request))
        samples = self._config.training.batch_size * self._trainer.process_group.size
        for note in training_notes(self._trainer.net, plan, samples):
            _logger.warning("%s", note)
        if self._trainer.iteration:
            return
        for callback in self._trainer.callbacks:
            if isinstance(callback, LogCallback):
                callback.log.write_config(self._folder.config.read_text(encoding="utf-8"))
                callback.log.write_graph(self._trainer.net, plan)

    def _report(self, form: ReportForm) -> TrainingReport:
        trainer, settings = self._trainer, self._config.training
        return training_report(
            form if trainer.process_group.is_main else "none",
            settings.iterations,
            trainer.iteration,
            trainer.state.device,
            settings.log.scalars_every,
            self._learned,
        )

    def _learn(self) -> str | signal.Signals:
        """Request batch after batch; return why that ended."""
        trainer = self._trainer
        with unwrap_errors():  # for the report
            trainer.begin()
            while True:
                if trainer.stop_reason is not None:
                    return trainer.stop_reason
                if trainer.iteration >= self._config.training.iterations:
                    return "done"
                received = self._received()
                if trainer.process_group.any_rank(received is not None):
                    return received or signal.SIGTERM
                self._pipeline.request_batch(gp.BatchRequest(self._request))
