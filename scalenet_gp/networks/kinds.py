"""Kinds of networks, as a run file names them."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.autoencoder import AutoencoderOptions, assemble_autoencoder
from scalenet_gp.networks.options import SubnetOptions, UNetOptions
from scalenet_gp.networks.scalenet import add_gates, assemble_scalenet, check_coarsest
from scalenet_gp.networks.unet import assemble_unet
from scalenet_gp.options import Options

__all__ = ["AttentiveScaleNetKind", "AutoencoderKind", "NetworkKind", "ScaleNetKind", "UNetKind"]

_O = TypeVar("_O", bound=UNetOptions)


class UNetKind(UNetOptions):
    """A U-Net: ``{kind: unet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``unet``.

    Example:
        >>> UNetKind.create(top_resolution=(8, 8, 8), base_nc=2).build(output_nc=3).specs["output"].channels
        3
    """

    kind: Literal["unet"] = "unet"

    def build(self, output_nc: int = 1) -> LeibNet:
        """Return the network; ``output_nc`` is for outputs that do not say how many channels they have."""
        return assemble_unet(_with_channels(self, output_nc))


class _Scales(Options):
    """Abstract: networks of several scales.

    Attributes:
        subnets: options of the scales, from coarse to fine.
    """

    subnets: tuple[SubnetOptions, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _join(self) -> Self:
        check_coarsest(self.subnets)
        return self


class ScaleNetKind(_Scales):
    """A ScaleNet: ``{kind: scalenet, subnets: [{top_resolution: [32, 32, 32]}, {top_resolution: [8, 8, 8]}]}``.

    Attributes:
        kind: ``scalenet``.

    Example:
        >>> ScaleNetKind.create(subnets=[{"top_resolution": (8, 8, 8), "base_nc": 2}]).build().name
        'ScaleNet'
    """

    kind: Literal["scalenet"] = "scalenet"

    def build(self, output_nc: int = 1) -> LeibNet:
        """Return the network; ``output_nc`` is for outputs that do not say how many channels they have."""
        return assemble_scalenet([_with_channels(subnet, output_nc) for subnet in self.subnets], "ScaleNet")


class AttentiveScaleNetKind(_Scales):
    """A ScaleNet with attention gates on the skip connections: see :func:`.build_attentive_scalenet`.

    Attributes:
        kind: ``attentive_scalenet``.

    Example:
        >>> AttentiveScaleNetKind.create(subnets=[{"top_resolution": (8, 8, 8), "base_nc": 2}]).build().name
        'AttentiveScaleNet'
    """

    kind: Literal["attentive_scalenet"] = "attentive_scalenet"

    def build(self, output_nc: int = 1) -> LeibNet:
        """Return the network; ``output_nc`` is for outputs that do not say how many channels they have."""
        subnets = [_with_channels(subnet, output_nc) for subnet in add_gates(self.subnets)]
        return assemble_scalenet(subnets, "AttentiveScaleNet")


class AutoencoderKind(AutoencoderOptions):
    """A variational autoencoder: see :func:`.build_autoencoder`.

    Attributes:
        kind: ``autoencoder``.

    Example:
        >>> AutoencoderKind.create(top_resolution=(8, 8, 8), latent_nc=3, base_nc=2).build().name
        'Autoencoder'
    """

    kind: Literal["autoencoder"] = "autoencoder"

    def build(self, output_nc: int = 1) -> LeibNet:
        """Return the network, which has as many output channels as input channels, whatever ``output_nc`` is."""
        return assemble_autoencoder(self)


NetworkKind = Annotated[UNetKind | ScaleNetKind | AttentiveScaleNetKind | AutoencoderKind, Field(discriminator="kind")]
"""Options of any network; ``kind`` tells which."""


def _with_channels(options: _O, output_nc: int) -> _O:
    return options if options.output_nc is not None else options.model_copy(update={"output_nc": output_nc})
