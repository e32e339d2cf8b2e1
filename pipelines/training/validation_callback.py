"""When a network in training is judged, what is kept of it, and whether that ends the run."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self, final

from funlib.geometry import Coordinate

from scalenet_gp.errors import ConfigError
from scalenet_gp.nodes import Train
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Dataset
from scalenet_gp.pipelines.training.reports import TrainingReport
from scalenet_gp.pipelines.training.run_folder import RunFolder
from scalenet_gp.pipelines.training.validation import LossOf, Validation
from scalenet_gp.training import EarlyStopping, ProcessGroup, ValidationResult, save_best

__all__ = ["ValidationCallback"]


@final
class ValidationCallback:
    """Judges the averaged network, or the trained one if none is averaged, by the config's validation.

    Rank 0 judges; all ranks hear of the score, for schedules that wait for a plateau. The state of it is in the notes
    of the trainer, and so in its checkpoints. A context manager.

    Args:
        config: the run, which has a validation.
        dataset: the volume.
        shape: of a sample, world units.
        loss: that of training.
        folder: where the best network is kept.
        ranks: the processes that train together.

    Attributes:
        best: the best judgement so far.

    Raises:
        ValueError: the region overlaps that of training or of the evaluation, or nothing is annotated there.
    """

    def __init__(
        self, config: Config, dataset: Dataset, shape: Coordinate, loss: LossOf, folder: RunFolder, ranks: ProcessGroup
    ) -> None:
        settings = config.validation
        if settings is None:
            raise ConfigError("the config has no validation to judge by")
        self.best = EarlyStopping(settings)
        self._kept, self._ranks = folder.best, ranks
        self._validation: Validation | None = None
        if ranks.is_main:
            self._validation = Validation(
                dataset,
                settings.region,
                shape,
                loss,
                samples=settings.samples,
                seed=settings.seed,
                threshold=config.evaluation.threshold,
                apart_from={"training.region": config.training.region, "evaluation.region": config.evaluation.region},
            )
        self._entered = ExitStack()

    def __enter__(self) -> Self:
        if self._validation is not None:
            self._entered.enter_context(self._validation)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered.__exit__(kind, error, traceback)

    def ends(self, trainer: Train, report: TrainingReport) -> bool:
        """Judge the network if it is time to. Whether the run has gone on for long enough without a better one."""
        if self.best.due(trainer.iteration):
            judgement = None if self._validation is None else self._validation.validate(trainer.state.eval_net)
            score = 0.0 if judgement is None else judgement.loss_like(self.best.metric)
            # before anything is saved, so that no checkpoint knows of a judgement that the schedule does not
            trainer.state.judged(self._ranks.broadcast(score))
            if judgement is not None:
                self._take(judgement, trainer, report)
        return self._ranks.any_rank(self.best.stop)

    def _take(self, judgement: ValidationResult, trainer: Train, report: TrainingReport) -> None:
        """Keep the network if it is the best so far, and tell how good it is."""
        better = self.best.add(trainer.iteration, judgement)
        trainer.notes["best"] = self.best.state_dict()
        checkpoint = trainer.save() if better else None
        if checkpoint is not None:
            save_best(checkpoint, self._kept)
        if trainer.log is not None:
            scores = {
                output: {label: agreement.scores for label, agreement in classes.items()}
                for output, classes in judgement.scores.items()
            }
            trainer.log.write_scores(trainer.iteration, scores)
        report.judged(trainer.iteration, judgement, self.best.metric, better)
