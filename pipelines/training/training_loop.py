"""A training run from its first batch, or where it was left, to its end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self, final

import gunpowder as gp

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes import Prefetch, Train
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Dataset, array_keys
from scalenet_gp.pipelines.process import Interrupted, build_chain, unwrap_errors
from scalenet_gp.pipelines.training.reports import ReportForm, TrainingReport, training_report
from scalenet_gp.pipelines.training.run_folder import RunFolder
from scalenet_gp.pipelines.training.validation_callback import ValidationCallback
from scalenet_gp.training import ProcessGroup, latest_checkpoint

__all__ = ["TrainingLoop"]


@final
class TrainingLoop:
    """Batches, judgements and checkpoints, until the run is done or asked to end: a context manager.

    Args:
        config: the run.
        dataset: the volume, and a network like the one that is trained.
        samples: a chain of batches.
        trainer: learns from them.
        folder: where everything goes.
        ranks: the processes that train together.
        received: returns the signal that asks for the end, if there was one.

    Raises:
        ValueError: the config does not fit the volume.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        samples: gp.Pipeline,
        trainer: Train,
        folder: RunFolder,
        ranks: ProcessGroup,
        received: Callable[[], signal.Signals | None],
    ) -> None:
        self.config, self.folder, self.ranks, self.trainer = config, folder, ranks, trainer
        self._received = received
        net = dataset.net
        shape = dataset.shape(config.training.output_shape, "training.output_shape")
        predictions = array_keys("PREDICTION", net.output_keys)
        self._request = {key: gp.ArraySpec(roi=gp.Roi((0,) * net.dims, shape)) for key in predictions.values()}
        self._prefetch = Prefetch(config.training.workers, seed=config.training.seed)
        self._chain = samples + self._prefetch + trainer
        self._judging: ValidationCallback | None = None
        if config.validation is not None:
            self._judging = ValidationCallback(config, dataset, shape, trainer.loss_of, folder, ranks)
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._judging is not None:
                stack.enter_context(self._judging)
            self._pipeline = stack.enter_context(build_chain(self._chain))
            self._entered = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._entered.__exit__(*error)

    def run(self, form: ReportForm) -> Path:
        """Learn until the end.

        Args:
            form: how progress is told.

        Returns:
            The newest checkpoint.

        Raises:
            ValueError: the run is longer than the config says already.
            Interrupted: a signal asked for the end.
        """
        iterations, trainer = self.config.training.iterations, self.trainer
        self.ranks.check_same("the iteration to go on from", trainer.iteration)
        if trainer.iteration > iterations:
            raise ConfigError(
                f"{self.folder.path} has done {trainer.iteration} iterations already; training.iterations is "
                f"{iterations}"
            )
        if self.ranks.is_main:
            self._begin()
        if self._judging is not None and "best" in trainer.notes:
            self._judging.best.load_state_dict(trainer.notes["best"])
        self._prefetch.next_batch = trainer.iteration
        with self._report(form) as report:
            trainer.listener = report.step
            stopped = self._learn(report)
            trainer.save()
            self.ranks.any_rank(False)  # rank 0 has written
            checkpoint = latest_checkpoint(self.folder.checkpoints)
            if isinstance(stopped, signal.Signals):
                raise Interrupted(stopped, checkpoint)
            report.end(stopped, checkpoint)
        if checkpoint is None:
            raise FileNotFoundError(f"{self.folder.checkpoints} holds no whole checkpoint; somebody removed it")
        return checkpoint

    def _begin(self) -> None:
        """Write what describes the run."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        self.config.write(self.folder.config)
        log, trainer = self.trainer.log, self.trainer
        if log is not None and not trainer.iteration:
            log.write_config(self.folder.config.read_text(encoding="utf-8"))
            log.write_graph(trainer.net, trainer.arrays.plan(gp.BatchRequest(self._request)))

    def _report(self, form: ReportForm) -> TrainingReport:
        trainer, settings = self.trainer, self.config.training
        return training_report(
            form if self.ranks.is_main else "none",
            settings.iterations,
            trainer.iteration,
            trainer.state.device,
            settings.log.scalars_every,
        )

    def _learn(self, report: TrainingReport) -> str | signal.Signals:
        """Batch after batch; why that ended."""
        trainer, saved = self.trainer, self.trainer.saved
        while True:
            if self._judging is not None and self._judging.ends(trainer, report):
                return f"{self._judging.best.without_improvement} judgements without a better one"
            if trainer.iteration >= self.config.training.iterations:
                return "done"
            received = self._received()
            if self.ranks.any_rank(received is not None):
                return received or signal.SIGTERM
            with unwrap_errors():  # for the report
                self._pipeline.request_batch(gp.BatchRequest(self._request))
            if trainer.saved is not None and trainer.saved != saved:
                saved = trainer.saved
                report.checkpoint(saved)
