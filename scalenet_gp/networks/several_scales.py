"""Networks of U-Nets at several voxel sizes that exchange predictions alone: the ensemble and the cascade."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.layers import Concatenate, Mean, Upsample
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.forms import OutputForms, one_channel, with_forms
from scalenet_gp.networks.parts import Parts, UNetNodes
from scalenet_gp.networks.scalenet import add_inputs, check_order, read_subnets, subnet_prefix, volumes_of
from scalenet_gp.networks.unet_options import ScaleOptions
from scalenet_gp.options import Options

__all__ = ["CascadeOptions", "EnsembleOptions", "build_cascade", "build_ensemble"]


class _SeveralScales(Options):
    """Abstract: U-Nets at several voxel sizes, and how coarse predictions are brought to finer voxels.

    Attributes:
        subnets: options of the U-Nets, from coarse to fine.
        prediction_upsampling: linear interpolation of coarse predictions unless given, or nearest neighbor.
    """

    subnets: tuple[ScaleOptions, ...] = Field(min_length=1)
    prediction_upsampling: Literal["nearest", "linear"] = "linear"

    @model_validator(mode="after")
    def _check_scales(self) -> Self:
        check_order(self.subnets)
        sizes = [subnet.level_size(0) for subnet in self.subnets]
        for index, (coarse, fine) in enumerate(self._neighbors(sizes)):
            if len(coarse) != len(fine) or any((c / f).denominator > 1 for c, f in zip(coarse, fine, strict=False)):
                raise ArgumentError(
                    f"subnet {index} has voxels of {format_size(coarse)} nm, which have to be whole multiples of the "
                    f"{format_size(fine)} nm to which its prediction is upsampled"
                )
        for index, subnet in enumerate(self.subnets):
            if not subnet.output_channels:
                raise ArgumentError(f"subnet {index} has an output_nc of 0, but its 'output' is needed")
        return self

    @property
    def volumes(self) -> dict[str, str]:
        """The names of volumes beside the raw data, by the inputs that read them."""
        return volumes_of(self.subnets)

    @staticmethod
    @abstractmethod
    def _neighbors(sizes: Sequence[tuple[Fraction, ...]]) -> list[tuple[tuple[Fraction, ...], tuple[Fraction, ...]]]:
        """Return the voxel sizes of each prediction and of the tensor that it is upsampled to."""

    @abstractmethod
    def assemble(self) -> LeibNet:
        """Return the network of these options."""

    def build(self, forms: OutputForms = one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        told = [with_forms(subnet, subnet_prefix(subnet, index), forms) for index, subnet in enumerate(self.subnets)]
        return self.model_copy(update={"subnets": tuple(told)}).assemble()

    def _upsampled(self, key: str, made: str, coarse: ScaleOptions, fine: ScaleOptions) -> tuple[list[Node], str]:
        """Return the node that brings a prediction to finer voxels, if it has to, and the name of the result."""
        sizes = zip(coarse.level_size(0), fine.level_size(0), strict=True)
        factor = [int(c / f) for c, f in sizes]
        if max(factor) == 1:
            return [], key
        return [Upsample([key], [made], factor, self.prediction_upsampling)], made


class EnsembleOptions(_SeveralScales):
    """Options of :func:`build_ensemble`: ``{kind: ensemble, subnets: [{top_resolution: [32, 32, 32]}, …]}``.

    Attributes:
        kind: ``ensemble``.

    Example:
        >>> subnets = [{"top_resolution": (nm,) * 3, "base_nc": 2} for nm in (16, 8)]
        >>> EnsembleOptions.create(subnets=subnets).build().output_keys
        ('output', '0_output', '1_output')
    """

    kind: Literal["ensemble"] = "ensemble"

    @staticmethod
    def _neighbors(sizes: Sequence[tuple[Fraction, ...]]) -> list[tuple[tuple[Fraction, ...], tuple[Fraction, ...]]]:
        return [(size, sizes[-1]) for size in sizes[:-1]]

    def build(self, forms: OutputForms = one_channel) -> LeibNet:
        """Return the network. ``forms`` is asked for the form of outputs whose channels or activation are not given."""
        average = forms("output")  # which all members share

        def of_member(name: str) -> Any:
            return average if name.endswith("_output") else forms(name)

        return super().build(of_member)

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        nodes: list[Node] = []
        inputs: dict[str, TensorSpec] = {}
        members, predictions = [], []
        for index, options in enumerate(self.subnets):
            parts = Parts(options, subnet_prefix(options, index))
            made = parts.unet()
            resizing, prediction = self._upsampled(
                f"{parts.prefix}output", f"{parts.prefix}output_upsample", options, self.subnets[-1]
            )
            nodes += [*made.nodes, *made.outputs, *resizing]
            add_inputs(inputs, parts)
            members += made.output_keys
            predictions.append(prediction)
        forms = {(options.output_channels, options.output_activation) for options in self.subnets}
        if len(forms) > 1:
            raise ArgumentError(
                "an ensemble averages predictions of the same channels and final activation, but its subnets have "
                + ", ".join(f"{channels} channels of {activation}" for channels, activation in sorted(forms))
            )
        nodes.append(Mean(predictions, ["output"]))
        return LeibNet(nodes, inputs, ["output", *members], name="Ensemble")


class CascadeOptions(_SeveralScales):
    """Options of :func:`build_cascade`: ``{kind: cascade, subnets: [{top_resolution: [32, 32, 32]}, …]}``.

    Attributes:
        kind: ``cascade``.

    Example:
        >>> subnets = [{"top_resolution": (nm,) * 3, "base_nc": 2} for nm in (16, 8)]
        >>> CascadeOptions.create(subnets=subnets).build().output_keys
        ('0_output', '1_output')
    """

    kind: Literal["cascade"] = "cascade"

    @staticmethod
    def _neighbors(sizes: Sequence[tuple[Fraction, ...]]) -> list[tuple[tuple[Fraction, ...], tuple[Fraction, ...]]]:
        return list(pairwise(sizes))

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        nodes: list[Node] = []
        inputs: dict[str, TensorSpec] = {}
        outputs: list[str] = []
        before: ScaleOptions | None = None
        for index, options in enumerate(self.subnets):
            prefix = subnet_prefix(options, index)
            add_inputs(inputs, Parts(options, prefix))
            if before is None:
                made = Parts(options, prefix).unet()
            else:
                coarse = subnet_prefix(before, index - 1)
                resizing, prediction = self._upsampled(
                    f"{coarse}output", f"{prefix}prediction_upsample", before, options
                )
                read = [*Parts(options, prefix).inputs(), prediction]
                join = Concatenate(read, [f"{prefix}input_join"])
                nodes += [*resizing, join]
                made = self._fine(options, prefix, before.output_channels)
            nodes += [*made.nodes, *made.outputs]
            outputs += made.output_keys
            before = options
        return LeibNet(nodes, inputs, outputs, name="Cascade")

    @staticmethod
    def _fine(options: ScaleOptions, prefix: str, prediction_nc: int) -> UNetNodes:
        channels = sum(spec.channels for spec in options.input_specs.values()) + prediction_nc
        read = options.model_copy(update={"input_nc": channels, "inputs": {}})
        return Parts(read, prefix, "input_join").unet()


def build_ensemble(subnet_dict_list: Sequence[Mapping[str, Any]], prediction_upsampling: str = "linear") -> LeibNet:
    """Return U-Nets at several voxel sizes, each by itself, and the mean of their predictions, as one network.

    Subnet *i* reads ``"i_input"`` and makes ``"i_output"``; ``"output"`` is the mean of these probabilities at the
    voxel size of the finest. Ciresan et al. 2012 (NIPS 25, "Deep neural networks segment neuronal membranes in electron
    microscopy images") averaged networks of several windows, and nnU-Net (Isensee et al. 2021, doi
    10.1038/s41592-020-01008-z) those of several resolutions. To train the members, give losses to their outputs and
    none to ``"output"``; with one on ``"output"`` the average is trained.

    Args:
        subnet_dict_list: the members from coarse to fine, each as a mapping with ``"top_resolution"`` (nm per axis) and
            any further option of :class:`scalenet_gp.networks.UNetOptions`, or ``"subnet_id"``, a name other than its
            place. All have the same ``output_nc`` and ``final_activation``. Heads and outputs of deep supervision are
            outputs, too, and are not averaged.
        prediction_upsampling: how coarse predictions are brought to the finest voxels, ``"linear"`` or ``"nearest"``.

    Raises:
        ArgumentError: the subnets are not in order, voxel sizes are not whole multiples of the finest, an argument is
            of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_ensemble([{"top_resolution": (nm,) * 3, "base_nc": 2} for nm in (32, 8)])
        >>> net.graph.nodes["output"].input_keys
        ('0_output_upsample', '1_output')
    """
    subnets = read_subnets(subnet_dict_list, "Ensemble", ScaleOptions)
    return EnsembleOptions.create(subnets=subnets, prediction_upsampling=prediction_upsampling).assemble()


def build_cascade(subnet_dict_list: Sequence[Mapping[str, Any]], prediction_upsampling: str = "linear") -> LeibNet:
    """Return U-Nets from coarse to fine, each coarse one's prediction being further input channels of the next.

    Subnet *i* reads ``"i_input"`` and makes ``"i_output"``. No features are exchanged, as in the cascade of nnU-Net
    (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z), which trains one after the other where this network trains
    all at once: the loss of a fine output reaches the coarse weights as well.

    Args:
        subnet_dict_list: the subnets from coarse to fine, each as a mapping with ``"top_resolution"`` (nm per axis) and
            any further option of :class:`scalenet_gp.networks.UNetOptions`, or ``"subnet_id"``, a name other than its
            place. ``input_nc`` counts the channels of ``"i_input"`` alone.
        prediction_upsampling: how coarse predictions are brought to finer voxels, ``"linear"`` or ``"nearest"``.

    Raises:
        ArgumentError: the subnets are not in order, voxel sizes are not whole multiples of the next finer, an argument
            is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_cascade([{"top_resolution": (nm,) * 3, "base_nc": 2} for nm in (32, 8)])
        >>> net.graph.nodes["1_input_join"].input_keys, net.specs["1_input_join"].channels
        (('1_input', '1_prediction_upsample'), 2)
    """
    subnets = read_subnets(subnet_dict_list, "Cascade", ScaleOptions)
    return CascadeOptions.create(subnets=subnets, prediction_upsampling=prediction_upsampling).assemble()
