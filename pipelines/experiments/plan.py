"""The plan of an experiment: the run file of every run, checked before the first one starts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError

from scalenet_gp.analysis import predict_cost
from scalenet_gp.errors import ConfigError, ScaleNetError
from scalenet_gp.options import Options, describe_problems
from scalenet_gp.pipelines.config import Config
from scalenet_gp.pipelines.data import Datasets, survey
from scalenet_gp.pipelines.evaluation import check_evaluation
from scalenet_gp.pipelines.experiments.matrix import Matrix, merge_settings
from scalenet_gp.pipelines.experiments.objects import check_objects
from scalenet_gp.pipelines.experiments.widths import (
    count_parameters,
    macs_per_voxel,
    nearest_width,
    widths_of,
    with_width,
)
from scalenet_gp.pipelines.inspection import dry_run
from scalenet_gp.pipelines.runs import describe_differences
from scalenet_gp.pipelines.training import check_run_memory
from scalenet_gp.serialization import atomic_write

__all__ = ["Cell", "ExperimentPlan", "Length", "Width", "plan_experiment"]


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One run of an experiment.

    Attributes:
        model: name of the model.
        data: name of the data set.
        seed: the seed.

    Example:
        >>> str(Cell("unet", "demo", 0))
        'unet/demo/0'
    """

    model: str
    data: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}/{self.data}/{self.seed}"


class Width(Options):
    """The width that was found for a model.

    Attributes:
        base_nc: the values of ``base_nc``, in the order of the subnets.
        reached: the measure with it.
        wanted: the measure of the reference.

    Example:
        >>> round(Width(base_nc=(10,), reached=1050.0, wanted=1000.0).difference, 3)
        0.05
    """

    base_nc: tuple[int, ...]
    reached: float
    wanted: float

    @property
    def difference(self) -> float:
        """The difference from the reference, as a share of the reference's."""
        return self.reached / self.wanted - 1


class Length(Options):
    """The length of the training of a model on a data set.

    Attributes:
        iterations: the iterations.
        each: what one of them takes of the budget: processor seconds, or multiply-accumulates; 1 of a budget of steps.

    Example:
        >>> Length(iterations=100, each=0.25).iterations
        100
    """

    iterations: int
    each: float


class ExperimentPlan(Options):
    """All that is decided before the first run, as it is kept in the folder of the experiment.

    Attributes:
        version: version of the file's format.
        matrix: the matrix, with the files that it names read in.
        widths: the width of each model that was matched.
        lengths: the length of the training of each model on each data set, by ``model/data``, if there is a budget.

    Example:
        >>> plan = ExperimentPlan(matrix=Matrix(base={}, models={"unet": {}}, seeds=(0, 1)))
        >>> [str(cell) for cell in plan.cells]
        ['unet/data/0', 'unet/data/1']
    """

    version: Literal[1] = 1
    matrix: Matrix
    widths: dict[str, Width] = Field(default_factory=dict)
    lengths: dict[str, Length] = Field(default_factory=dict)

    @property
    def cells(self) -> list[Cell]:
        """The runs: seeds first, so that every model has a result before one has several."""
        matrix = self.matrix
        return [Cell(model, data, seed) for seed in matrix.seeds for data in matrix.data for model in matrix.models]

    @classmethod
    def read(cls, path: Path) -> ExperimentPlan | None:
        """Return the plan in a file; None if there is no file.

        Raises:
            ConfigError: it is damaged, or of another version.
        """
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_bytes())
            return cls.model_validate(content)
        except ValidationError as error:
            problems = "; ".join(describe_problems(error, cls, content, "the file"))
            raise ConfigError(f"{path} does not hold the plan of an experiment: {problems}") from None
        except ValueError as error:
            raise ConfigError(f"{path} is not readable: {error}") from error

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            beside.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def check_only_adds(self, matrix: Matrix, path: Path) -> None:
        """Check that a matrix has all that this one has, as it is, and adds models, data sets and seeds at most.

        ``parallel`` may change.

        Raises:
            ConfigError: something differs; the message names each field, and both values.
        """
        there, here = (each.model_dump(mode="json", exclude={"parallel"}) for each in (self.matrix, matrix))
        for part in ("models", "data"):
            here[part] = {name: fields for name, fields in here[part].items() if name in there[part]}
        here["seeds"] = [seed for seed in there["seeds"] if seed in here["seeds"]]
        if differences := list(describe_differences(there, here)):
            raise ConfigError(
                f"{path} was begun with another matrix: {'; '.join(differences)}. Models, data sets and seeds may be "
                "added, and parallel may change; choose another folder with --folder for anything else"
            )

    def config(self, cell: Cell) -> Config:
        """Return the run file of a run.

        Raises:
            ConfigError: it is wrong; each field is named.
        """
        width, length = self.widths.get(cell.model), self.lengths.get(f"{cell.model}/{cell.data}")
        return _config(self.matrix, cell, width, length)


def plan_experiment(matrix: Matrix, before: ExperimentPlan | None = None, device: str | None = None) -> ExperimentPlan:
    """Build every network, open every data set, search widths, and measure lengths. Nothing is written.

    Args:
        matrix: the matrix, as :meth:`.Matrix.read` returns it.
        before: the plan that is kept and added to.
        device: name of a torch device; that of the run files unless given.

    Raises:
        ConfigError: models or data sets are wrong, all of which are named; or a model cannot be matched.
    """
    _check_all(matrix, before, device)
    known = before or ExperimentPlan(matrix=matrix)
    threads = torch.get_num_threads()
    torch.set_num_threads(matrix.threads)
    try:
        widths = _search_widths(matrix, known.widths, device)
        lengths = dict(_find_lengths(matrix, widths, known.lengths, device))
    finally:
        torch.set_num_threads(threads)
    plan = ExperimentPlan(matrix=matrix, widths=widths, lengths=lengths)
    for model in widths:  # widths may not fit the memory
        _check(plan.config(Cell(model, next(iter(matrix.data)), matrix.seeds[0])), matrix, device)
    return plan


@dataclass
class _Faults:
    """Faults of many runs, told together."""

    found: list[str] = field(default_factory=list)

    def add(self, cell: Cell, error: Exception) -> None:
        self.found.append(f"model {cell.model} on {cell.data}: {error}")

    def tell(self) -> None:
        if self.found:
            raise ConfigError(f"no run was started: {'; '.join(self.found)}")


def _config(matrix: Matrix, cell: Cell, width: Width | None = None, length: Length | None = None) -> Config:
    settings = matrix.settings(cell.model, cell.data)
    training: dict[str, Any] = {"seed": cell.seed}
    if length is not None:
        training["iterations"] = length.iterations
    elif matrix.budget is not None:  # the length is not known yet
        training["iterations"] = matrix.budget.steps or settings.get("training", {}).get("iterations", 1)
    settings = merge_settings(settings, {"training": training})
    config = _validated(settings)
    if width is None:
        return config
    network = config.network.model_dump(mode="json", exclude_none=True)
    return _validated({**settings, "network": with_width(network, width.base_nc[0])})


def _validated(settings: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError("; ".join(describe_problems(error, Config, settings, "the run file"))) from error


def _check_all(matrix: Matrix, before: ExperimentPlan | None, device: str | None) -> None:
    """Check every model on every data set, and tell all faults together."""
    faults = _Faults()
    for cell in (Cell(model, data, matrix.seeds[0]) for data in matrix.data for model in matrix.models):
        try:
            known = before is not None and cell in before.cells
            _check(before.config(cell) if before is not None and known else _config(matrix, cell), matrix, device)
        except (ScaleNetError, OSError, MemoryError) as error:
            faults.add(cell, error)
    faults.tell()


def _check(config: Config, matrix: Matrix, device: str | None) -> None:
    """Build the network and open the data of a run, as the training does before its first step.

    Raises:
        ScaleNetError, OSError, MemoryError: as the training.
    """
    net = config.build_network()
    datasets = Datasets.find(config.data.folder or "", config, net)
    survey(datasets).check()
    check_evaluation(config, datasets)
    check_objects(config, datasets, matrix.objects)
    check_run_memory(config, datasets, device)


def _search_widths(matrix: Matrix, known: Mapping[str, Width], device: str | None) -> dict[str, Width]:
    """Return the widths of the models other than the reference, on the first data set with the first seed.

    Raises:
        ConfigError: a model does not come as near as the tolerance says.
    """
    match = matrix.match
    if match is None:
        return {}
    data, seed = next(iter(matrix.data)), matrix.seeds[0]
    wanted = next((width.wanted for width in known.values()), None)
    found, faults = dict(known), []
    for model in matrix.models:
        if model in known or model == match.reference:
            continue
        if wanted is None:
            wanted = _measure(_config(matrix, Cell(match.reference, data, seed)), match.by, device)
        config = _config(matrix, Cell(model, data, seed))
        network = config.network.model_dump(mode="json", exclude_none=True)

        def measure(width: int, config: Config = config, network: Mapping[str, Any] = network) -> float | None:
            try:
                changed = _validated({**config.model_dump(mode="json"), "network": with_width(network, width)})
            except ConfigError:
                return None
            return _measure(changed, match.by, device)

        nearest = nearest_width(measure, wanted)
        if nearest is None:
            faults.append(f"{model} can have no width")
            continue
        width = Width(base_nc=tuple(widths_of(with_width(network, nearest[0]))), reached=nearest[1], wanted=wanted)
        found[model] = width
        if abs(width.difference) > match.tolerance:
            faults.append(
                f"{model} comes no nearer than {width.reached:.4g} instead of {wanted:.4g} ({width.difference:+.1%}), "
                f"with base_nc {', '.join(map(str, width.base_nc))}"
            )
    if faults:
        raise ConfigError(
            f"by {match.by}, not all models match {match.reference} within match.tolerance {match.tolerance:g}: "
            f"{'; '.join(faults)}. Raise match.tolerance, or change their depth"
        )
    return found


def _measure(config: Config, by: Literal["parameters", "macs", "time"], device: str | None) -> float:
    if by == "time":
        return _seconds_of_iteration(config, device)
    net = config.build_network()
    return float(count_parameters(net)) if by == "parameters" else macs_per_voxel(net, config.prediction.block_shape)


def _find_lengths(
    matrix: Matrix, widths: Mapping[str, Width], known: Mapping[str, Length], device: str | None
) -> Iterator[tuple[str, Length]]:
    """Yield the length of the training of each model on each data set."""
    budget = matrix.budget
    if budget is None:
        return
    for data in matrix.data:
        for model in matrix.models:
            name = f"{model}/{data}"
            if name in known:
                yield name, known[name]
                continue
            if budget.steps is not None:
                yield name, Length(iterations=budget.steps, each=1)
                continue
            config = _config(matrix, Cell(model, data, matrix.seeds[0]), widths.get(model))
            if budget.seconds is not None:
                whole, each = budget.seconds, _seconds_of_iteration(config, device)
            else:
                whole, each = float(budget.macs or 0), _macs_of_iteration(config)
            if whole < each:
                raise ConfigError(
                    f"the budget {whole:g} is less than one iteration of {model} on {data}, which takes {each:.4g}: "
                    "raise it, or lower training.batch_size or training.output_shape"
                )
            yield name, Length(iterations=int(whole / each), each=each)


def _seconds_of_iteration(config: Config, device: str | None) -> float:
    """Return the processor seconds of an iteration; on a GPU, which the processor waits for, those by the clock."""
    measured = dry_run(config, config.data.folder or "", device)
    return measured.processor if measured.device == "cpu" else measured.iteration


def _macs_of_iteration(config: Config) -> float:
    """Return the multiply-accumulates of the forward and backward pass of a batch."""
    net, training = config.build_network(), config.training
    datasets = Datasets.find(config.data.folder or "", config, net)
    plan = net.plan(datasets.boxes(training.output_shape))
    checkpointed = training.compute.checkpointed_nodes(net)
    cost = predict_cost(
        net.graph, plan, batch=training.batch_size, training=True, activation_checkpointing=checkpointed
    )
    return float(cost.total_macs)
