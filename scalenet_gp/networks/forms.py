"""The forms of outputs that a run file's targets decide, and the base of networks that have one input."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.options import OutputOptions

__all__ = ["OutputForm", "OutputForms", "SingleInputOptions", "one_channel", "with_forms"]

_O = TypeVar("_O", bound=OutputOptions)


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


def one_channel(name: str) -> OutputForm:
    """Return the form of an output about which nothing is known."""
    return OutputForm()


def with_forms(options: _O, prefix: str, forms: OutputForms) -> _O:
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


class SingleInputOptions(OutputOptions):
    """Abstract: options of a network of one input, which a run file can name. A subclass has a field ``kind``."""

    @abstractmethod
    def assemble(self) -> LeibNet:
        """Return the network of these options."""

    def build(self, forms: OutputForms = one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        return with_forms(self, "", forms).assemble()
