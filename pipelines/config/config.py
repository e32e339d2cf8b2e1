"""The run file: one YAML file that describes a run from training to evaluation.

Lengths are nanometres per spatial axis (z, y, x), exact: 4.6 is 23/5. Positions count from the corner of the raw
volume, so that a volume's first section begins at 0 whatever position its file states.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, field_validator, model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import NetworkKind, OutputForm
from scalenet_gp.nodes.augment import Augmentation
from scalenet_gp.options import Options, describe_problems
from scalenet_gp.pipelines.config.data import DataConfig, DatasplitConfig, SourceConfig
from scalenet_gp.pipelines.config.evaluation import EvaluationConfig
from scalenet_gp.pipelines.config.learned_volume import LearnedVolume
from scalenet_gp.pipelines.config.overrides import apply_overrides, name_sources
from scalenet_gp.pipelines.config.prediction import PredictionOptions
from scalenet_gp.pipelines.config.segmentation import SegmentationConfig
from scalenet_gp.pipelines.config.targets import match_output, match_outputs
from scalenet_gp.pipelines.config.training import TrainingConfig, ValidationConfig
from scalenet_gp.pipelines.config.yaml_files import dump_yaml, load_yaml
from scalenet_gp.serialization import atomic_write

__all__ = ["Config"]

_VERSION = 1


class Config(Options):
    """A run from training to evaluation.

    Attributes:
        version: version of the format; 1.
        data: volumes and classes.
        network: the network. An output that does not say its channels or its final activation has those that its
            targets need.
        augmentation: random changes of samples while training, in their order.
        training: how the network is trained.
        validation: how it is validated meanwhile; not at all if absent.
        prediction: how a region is predicted, block by block.
        evaluation: how the prediction is compared with the annotation.
        segmentation: how objects are found in the prediction.
        learned_from: the raw volumes that a run has learned from. A run writes them; no run file needs them.
    """

    version: Literal[1] = 1
    data: DataConfig
    network: NetworkKind
    augmentation: tuple[Augmentation, ...] = ()
    training: TrainingConfig
    validation: ValidationConfig | None = None
    prediction: PredictionOptions
    evaluation: EvaluationConfig = EvaluationConfig()
    segmentation: SegmentationConfig = SegmentationConfig()
    learned_from: tuple[LearnedVolume, ...] = ()

    @model_validator(mode="after")
    def _check_uses(self) -> Config:
        uses = {getattr(source, "use", None) for source in self.data.sources}
        of_files = any(isinstance(source, DatasplitConfig) for source in self.data.sources)
        if self.data.split is not None and self.validation is None:
            raise ConfigError("data.split chooses the sources to validate with, and there is no validation: write one")
        told = self.data.split is not None or "validate" in uses or of_files
        if self.validation is not None and self.validation.region is None and not told:
            raise ConfigError(
                "validation has no data: give it a region, a source the use validate, or choose by data.split"
            )
        return self

    @model_validator(mode="after")
    def _check_inputs(self) -> Config:
        names = set(self.network.volumes.values())
        for number, source in enumerate(self.data.sources):
            given = set(source.inputs) if isinstance(source, SourceConfig) else set()
            field = f"data.sources.{number}.inputs"
            if missing := sorted(names - given):
                crops = "" if isinstance(source, SourceConfig) else "; write each crop as a source of its own"
                raise ConfigError(f"{field} has no {missing[0]!r}, which network.inputs reads{crops}")
            if unread := sorted(given - names):
                raise ConfigError(
                    f"{field} has {unread[0]!r}, which the network does not read: give the network inputs: "
                    f"{{{unread[0]}: <its channels>}}, or leave it out"
                )
        return self

    @model_validator(mode="after")
    def _check_overlap(self) -> Config:
        if self.prediction.overlap is not None:
            self.prediction.check_network(self.build_network())
        return self

    @classmethod
    def read(cls, path: Path, overrides: Iterable[str] = ()) -> Config:
        """Return the config in a YAML file.

        Args:
            path: the file.
            overrides: values that replace the file's, each as ``key.path=value``: see :func:`.apply_overrides`.

        Raises:
            FileNotFoundError: the file does not exist.
            ConfigError: it is not YAML or of another version, or a field is unknown, missing or out of its range; each
                is named.
        """
        overrides = list(overrides)
        data = apply_overrides(load_yaml(path), overrides)
        if isinstance(data, dict) and not _is_version(data.get("version")):
            found = f"version is {data['version']!r}" if "version" in data else "version is missing"
            raise ConfigError(
                f"{path}: {found}; this scalenet_gp reads run files of version {_VERSION}: write `version: {_VERSION}` "
                "once the fields are those of `scalenet-gp schema`"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = describe_problems(error, cls, data, "the config")
            raise ConfigError("; ".join(name_sources(problems, str(path), overrides))) from error

    @field_validator("version", mode="before")
    @classmethod
    def _check_version(cls, version: Any) -> Any:
        if not _is_version(version):
            raise ConfigError(f"this scalenet_gp reads run files of version {_VERSION}")
        return version

    def write(self, path: Path) -> None:
        """Write the config as YAML; :meth:`read` returns the same config again."""
        plain = self.model_dump(mode="json", exclude_none=False)
        text = dump_yaml(plain, default_flow_style=None, width=120)
        with atomic_write(path) as beside:
            beside.write_text(text, encoding="utf-8")

    def build_network(self) -> LeibNet:
        """Return the network, with random weights.

        Raises:
            ConfigError: the targets do not fit the network's outputs, or the classes.
        """

        def form(name: str) -> OutputForm:
            options = match_output(self.training.targets, name)
            channels = options.channels(self.data)
            return OutputForm(len(channels), options.final_activation, channels)

        return self.network.build(form)

    def learned(self, outputs: Sequence[str]) -> dict[str, Any]:
        """Return the settings that a trained network with these outputs takes for granted, as plain values."""
        targets = match_outputs(self.training.targets, outputs)
        channels = {name: list(options.channels(self.data)) for name, options in targets.items()}
        return {"channels": channels, **self.data.model_dump(mode="json", include={"padding", "intensities"})}


def _is_version(version: Any) -> bool:
    """Return whether it is the version of this format; ``true`` is not, though Python takes it for 1."""
    return type(version) is int and version == _VERSION
