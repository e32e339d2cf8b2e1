"""Kinds of networks, as a run file names them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, model_validator

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.autoencoder import AutoencoderOptions, assemble_autoencoder
from scalenet_gp.networks.options import SubnetOptions, UNetOptions
from scalenet_gp.networks.scalenet import add_gates, assemble_scalenet, check_order, subnet_prefix
from scalenet_gp.networks.unet import assemble_unet
from scalenet_gp.options import Options

__all__ = ["AttentiveScaleNetKind", "AutoencoderKind", "NetworkKind", "OutputForm", "ScaleNetKind", "UNetKind"]

_O = TypeVar("_O", bound=UNetOptions)


@dataclass(frozen=True, slots=True)
class OutputForm:
    """The form of an output, for networks whose options do not say it.

    Attributes:
        channels: number of channels.
        final_activation: name of the activation, as ``torch.nn`` has it.
        classes: names of the channels, for heads that leave them out.

    Example:
        >>> OutputForm(channels=3, final_activation="Softmax").channels
        3
    """

    channels: int = 1
    final_activation: str = "Sigmoid"
    classes: tuple[str, ...] = ()


OutputForms = Callable[[str], OutputForm]
"""A function that returns the form of an output by its name."""


def _one_channel(name: str) -> OutputForm:
    return OutputForm()


class UNetKind(UNetOptions):
    """A U-Net: ``{kind: unet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``unet``.

    Example:
        >>> kind = UNetKind.create(top_resolution=(8, 8, 8), base_nc=2)
        >>> kind.build(lambda name: OutputForm(channels=3)).specs["output"].channels
        3
    """

    kind: Literal["unet"] = "unet"

    def build(self, forms: OutputForms = _one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        return assemble_unet(_with_forms(self, "", forms))


class _Scales(Options):
    """Abstract: networks of several scales.

    Attributes:
        subnets: options of the scales, from coarse to fine.
    """

    subnets: tuple[SubnetOptions, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _join(self) -> Self:
        check_order(self.subnets)
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

    def build(self, forms: OutputForms = _one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        return assemble_scalenet(_subnets_with_forms(self.subnets, forms), "ScaleNet")


class AttentiveScaleNetKind(_Scales):
    """A ScaleNet with attention gates on the skip connections: see :func:`.build_attentive_scalenet`.

    Attributes:
        kind: ``attentive_scalenet``.

    Example:
        >>> AttentiveScaleNetKind.create(subnets=[{"top_resolution": (8, 8, 8), "base_nc": 2}]).build().name
        'AttentiveScaleNet'
    """

    kind: Literal["attentive_scalenet"] = "attentive_scalenet"

    def build(self, forms: OutputForms = _one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        return assemble_scalenet(_subnets_with_forms(add_gates(self.subnets), forms), "AttentiveScaleNet")


class AutoencoderKind(AutoencoderOptions):
    """A variational autoencoder: see :func:`.build_autoencoder`.

    Attributes:
        kind: ``autoencoder``.

    Example:
        >>> AutoencoderKind.create(top_resolution=(8, 8, 8), latent_nc=3, base_nc=2).build().name
        'Autoencoder'
    """

    kind: Literal["autoencoder"] = "autoencoder"

    def build(self, forms: OutputForms = _one_channel) -> LeibNet:
        """Return the network, whose output has the form of its input, whatever ``forms`` says."""
        return assemble_autoencoder(self)


NetworkKind = Annotated[UNetKind | ScaleNetKind | AttentiveScaleNetKind | AutoencoderKind, Field(discriminator="kind")]
"""Options of any network; ``kind`` tells which."""


def _subnets_with_forms(subnets: Sequence[SubnetOptions], forms: OutputForms) -> list[SubnetOptions]:
    return [_with_forms(subnet, subnet_prefix(subnet, index), forms) for index, subnet in enumerate(subnets)]


def _with_forms(options: _O, prefix: str, forms: OutputForms) -> _O:
    """Return the options with the forms of ``"output"`` and of the heads where they are not given."""
    form = forms(f"{prefix}output")
    changes: dict[str, Any] = {}
    if options.output_nc is None:
        changes["output_nc"] = form.channels
    if options.final_activation is None:
        changes["final_activation"] = form.final_activation
    changes["heads"] = options.heads and {
        name: _head_with_form(head, forms(prefix + name), options.final_activation)
        for name, head in options.heads.items()
    }
    return options.model_copy(update=changes)


def _head_with_form(
    head: tuple[str, ...] | dict[str, Any], form: OutputForm, final_activation: str | None
) -> dict[str, Any]:
    """Return the arguments of a head, with those of its form where neither it nor its network says them."""
    own = head if isinstance(head, dict) else {"classes": head}
    activation = {"final_activation": form.final_activation} if final_activation is None else {}
    return {"classes": form.classes, **activation, **own}
