"""Kinds of networks, as a run file names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.autoencoder import AutoencoderOptions, assemble_autoencoder
from scalenet_gp.networks.deeplab import DeepLabOptions
from scalenet_gp.networks.forms import OutputForms, one_channel, with_forms
from scalenet_gp.networks.fpn import FPNOptions
from scalenet_gp.networks.hrnet import HRNetOptions
from scalenet_gp.networks.multimodal_unet import MultimodalUNetOptions
from scalenet_gp.networks.options import Flag
from scalenet_gp.networks.residual_encoder import ResidualEncoderOptions
from scalenet_gp.networks.scalenet import (
    add_gates,
    assemble_scalenet,
    check_order,
    subnet_prefix,
    volumes_of,
)
from scalenet_gp.networks.several_scales import CascadeOptions, EnsembleOptions
from scalenet_gp.networks.unet import assemble_unet
from scalenet_gp.networks.unet_3_plus import UNet3PlusOptions
from scalenet_gp.networks.unet_options import SubnetOptions, UNetOptions
from scalenet_gp.networks.unet_plus_plus import UNetPlusPlusOptions
from scalenet_gp.networks.unet_variants import (
    AttentionUNetOptions,
    ConvNeXtUNetOptions,
    HybridUNetOptions,
    MobileUNetOptions,
    TransUNetOptions,
)
from scalenet_gp.options import Options

__all__ = ["AttentiveScaleNetKind", "AutoencoderKind", "NetworkKind", "ScaleNetKind", "UNetKind"]


class UNetKind(UNetOptions):
    """A U-Net: ``{kind: unet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``unet``.

    Example:
        >>> from scalenet_gp.networks import OutputForm
        >>> kind = UNetKind.create(top_resolution=(8, 8, 8), base_nc=2)
        >>> kind.build(lambda name: OutputForm(channels=3)).specs["output"].channels
        3
    """

    kind: Literal["unet"] = "unet"

    def build(self, forms: OutputForms = one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        return assemble_unet(with_forms(self, "", forms))


class _Scales(Options):
    """Abstract: networks of several scales.

    Attributes:
        subnets: options of the scales, from coarse to fine.
        coarse_supervision: all subnets make outputs; otherwise only the finest does.
    """

    subnets: tuple[SubnetOptions, ...] = Field(min_length=1)
    coarse_supervision: Flag = True

    @model_validator(mode="after")
    def _join(self) -> Self:
        check_order(self.subnets)
        return self

    @property
    def volumes(self) -> dict[str, str]:
        """The names of volumes beside the raw data, by the inputs that read them."""
        return volumes_of(self.subnets)


class ScaleNetKind(_Scales):
    """A ScaleNet: ``{kind: scalenet, subnets: [{top_resolution: [32, 32, 32]}, {top_resolution: [8, 8, 8]}]}``.

    Attributes:
        kind: ``scalenet``.

    Example:
        >>> ScaleNetKind.create(subnets=[{"top_resolution": (8, 8, 8), "base_nc": 2}]).build().name
        'ScaleNet'
    """

    kind: Literal["scalenet"] = "scalenet"

    def build(self, forms: OutputForms = one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        return assemble_scalenet(_subnets_with_forms(self.subnets, forms), "ScaleNet", self.coarse_supervision)


class AttentiveScaleNetKind(_Scales):
    """A ScaleNet with attention gates on the skip connections: see :func:`.build_attentive_scalenet`.

    Attributes:
        kind: ``attentive_scalenet``.

    Example:
        >>> AttentiveScaleNetKind.create(subnets=[{"top_resolution": (8, 8, 8), "base_nc": 2}]).build().name
        'AttentiveScaleNet'
    """

    kind: Literal["attentive_scalenet"] = "attentive_scalenet"

    def build(self, forms: OutputForms = one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        subnets = _subnets_with_forms(add_gates(self.subnets), forms)
        return assemble_scalenet(subnets, "AttentiveScaleNet", self.coarse_supervision)


class AutoencoderKind(AutoencoderOptions):
    """A variational autoencoder: see :func:`.build_autoencoder`.

    Attributes:
        kind: ``autoencoder``.

    Example:
        >>> AutoencoderKind.create(top_resolution=(8, 8, 8), latent_nc=3, base_nc=2).build().name
        'Autoencoder'
    """

    kind: Literal["autoencoder"] = "autoencoder"

    def build(self, forms: OutputForms = one_channel) -> LeibNet:
        """Return the network, whose output has the form of its input, whatever ``forms`` says."""
        return assemble_autoencoder(self)


NetworkKind = Annotated[
    UNetKind
    | ScaleNetKind
    | AttentiveScaleNetKind
    | AutoencoderKind
    | AttentionUNetOptions
    | CascadeOptions
    | ConvNeXtUNetOptions
    | DeepLabOptions
    | EnsembleOptions
    | FPNOptions
    | HRNetOptions
    | HybridUNetOptions
    | MobileUNetOptions
    | MultimodalUNetOptions
    | ResidualEncoderOptions
    | TransUNetOptions
    | UNet3PlusOptions
    | UNetPlusPlusOptions,
    Field(discriminator="kind"),
]
"""Options of any network; ``kind`` tells which."""


def _subnets_with_forms(subnets: Sequence[SubnetOptions], forms: OutputForms) -> list[SubnetOptions]:
    return [with_forms(subnet, subnet_prefix(subnet, index), forms) for index, subnet in enumerate(subnets)]
