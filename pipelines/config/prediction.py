"""Options of prediction: the part ``prediction`` of a run file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import format_size
from scalenet_gp.inference import Product, SymmetryGroup
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.options import Options, Precision, Shape

__all__ = ["PredictionOptions"]


def _as_text(path: Any) -> Any:
    return str(path) if isinstance(path, Path) else path


class PredictionOptions(Options):
    """Options of a prediction, block by block.

    Attributes:
        block_shape: shape of a block, nm; whole voxels of every output. Larger blocks compute less context twice.
        overlap: overlap of neighboring blocks, nm, for a network that depends on the whole of its input, as those with
            instance norm do: their predictions are blended. A quarter of ``block_shape`` unless given.
        outputs: names of the network's outputs to predict; all if empty.
        products: arrays to store of each output: the mean over networks and symmetries, its entropy, the variance; see
            :class:`scalenet_gp.inference.Ensemble`.
        symmetries: symmetries of the lattice to average over: none, mirrors, or mirrors and transpositions.
        precision: number format in which the network computes.
        stored: number format in which probabilities are stored: uint8 is round(255 × probability). A variance, which
            uint8 cannot hold, is stored as float32 then.
        chunk: voxels per axis that are stored together in one file; half as many may fit the blocks better. 64 unless
            given, 512 in two dimensions.
        mask: path or URL of a multiscale volume. Blocks are left out, and zero, where it is zero throughout the block
            and one of its voxels around it.
        allow_other_inputs: let the network read predictions of other networks than those whose predictions it learned
            from.

    Example:
        >>> PredictionOptions(block_shape=(1024, 1024, 1024)).stored
        'uint8'
    """

    block_shape: Shape
    overlap: Shape | None = None
    outputs: tuple[str, ...] = ()
    products: Annotated[tuple[Product, ...], Field(min_length=1)] = ("mean",)
    symmetries: SymmetryGroup = "none"
    precision: Precision = "float32"
    stored: Literal["uint8", "float16", "float32"] = "uint8"
    chunk: Annotated[int | None, Field(ge=16)] = None
    mask: Annotated[str | None, BeforeValidator(_as_text)] = None
    allow_other_inputs: bool = False

    @model_validator(mode="after")
    def _check_overlap(self) -> PredictionOptions:
        if self.overlap is None:
            return self
        fits = len(self.overlap) == len(self.block_shape)
        if not fits or any(o >= b for o, b in zip(self.overlap, self.block_shape, strict=True)):
            raise ConfigError(
                f"overlap {format_size(self.overlap)} nm has to be below block_shape, which is "
                f"{format_size(self.block_shape)} nm, along every axis"
            )
        return self

    def check_network(self, net: LeibNet) -> None:
        """Refuse an overlap for a network that predicts the same in tiles as in one piece.

        Raises:
            ConfigError: there is one.
        """
        if self.overlap is not None and net.tileable:
            raise ConfigError(
                f"prediction.overlap is {format_size(self.overlap)} nm, but {net.name} predicts the same in tiles as "
                "in one piece, so there is nothing to blend: leave prediction.overlap out; it is for networks that "
                "depend on the whole of their input, as those with instance norm do"
            )
