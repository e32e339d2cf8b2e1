"""U-Nets that read several volumes: early, late and cross fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length
from scalenet_gp.graph import Node
from scalenet_gp.layers import GatedSum, ScaleAttention, Sum
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import pieces
from scalenet_gp.networks.forms import SingleInputOptions
from scalenet_gp.networks.parts import Parts
from scalenet_gp.networks.unet import assemble_unet
from scalenet_gp.networks.unet_options import UNetOptions

__all__ = ["MultimodalUNetOptions", "build_multimodal_unet"]

_JOINS = {"sum": Sum, "gated_sum": GatedSum, "attention": ScaleAttention}


class MultimodalUNetOptions(UNetOptions, SingleInputOptions):
    """Options of :func:`build_multimodal_unet`: ``{kind: multimodal_unet, top_resolution: [8, 8], inputs: {ct: 1}}``.

    Attributes:
        kind: ``multimodal_unet``.
        fusion: where the volumes meet: at the first convolution (``"early"``), at every level of encoders of their own
            (``"cross"``), or in the features that outputs are made of, each by a U-Net of its own (``"late"``).
        fusion_join: how features of several volumes become one tensor, in cross and late fusion: by attention that
            weighs them in each voxel, by a sum, or by a sum with gates.

    Example:
        >>> options = MultimodalUNetOptions.create(top_resolution=(8, 8, 8), base_nc=2, inputs={"ct": 1})
        >>> options.build().input_keys
        ('input', 'ct_input')
    """

    kind: Literal["multimodal_unet"] = "multimodal_unet"
    fusion: Literal["early", "late", "cross"] = "cross"
    fusion_join: Literal["sum", "gated_sum", "attention"] = "attention"

    @model_validator(mode="after")
    def _check_volumes(self) -> Self:
        if len(self.input_specs) < 2:
            raise ArgumentError(
                f"there is nothing to fuse: the one input is {next(iter(self.input_specs))!r}; name further volumes "
                "with inputs, or take a unet"
            )
        if "raw" in self.inputs:
            raise ArgumentError("inputs has 'raw', the name of the raw data's own tensors: rename it")
        if self.fusion == "early" and "fusion_join" in self.model_fields_set:
            raise ArgumentError(
                f"early fusion concatenates the inputs; leave out fusion_join, here {self.fusion_join!r}"
            )
        if self.fusion == "late" and self.deep_supervision:
            raise ArgumentError("with late fusion the U-Nets meet behind all levels: leave out deep_supervision")
        return self

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        if self.fusion == "early":
            return assemble_unet(self, "MultimodalUNet")
        parts = Parts(self)
        if self.fusion == "late":
            nodes, features = self._late()
            outputs = parts.outputs(features)
        else:
            bottleneck, read = parts.bottleneck(parts.encoded)
            nodes = [*self._crossed_encoders(), *bottleneck, *parts.decoder(read, self.channels(self.levels))]
            outputs = parts.outputs()
        made = [node.output_keys[0] for node in outputs]
        return LeibNet([*nodes, *outputs], self.input_specs, made, name="MultimodalUNet")

    @property
    def _volumes(self) -> dict[str, str]:
        """The inputs by the names of their volumes."""
        return {name.removesuffix("input").rstrip("_") or "raw": name for name in self.input_specs}

    def _late(self) -> tuple[list[Node], str]:
        """Return a U-Net without outputs for each volume, and the node that joins their features."""
        nodes: list[Node] = []
        read = []
        for volume, key in self._volumes.items():
            update = {"input_nc": self.input_specs[key].channels, "inputs": {}, "heads": None, "output_nc": 0}
            unet = Parts(self.model_copy(update=update), "" if volume == "raw" else f"{volume}_").unet()
            nodes += unet.nodes
            read.append(unet.features)
        return [*nodes, self._join(read, "fusion", self.channels(0))], "fusion"

    def _crossed_encoders(self) -> list[Node]:
        """Return encoders that exchange features at every level, and the tensors that a decoder reads."""
        nodes: list[Node] = []
        reads = {volume: (key, self.input_specs[key].channels) for volume, key in self._volumes.items()}
        for level, factor in enumerate(self.factors):
            nc = self.channels(level)
            own = {volume: f"{volume}_in_conv_{level}" for volume in reads}
            for volume, (read, read_nc) in reads.items():
                nodes.append(pieces.conv_pass(self, read, own[volume], read_nc, level, of_input=not level))
            nodes.append(self._join(list(own.values()), f"in_conv_{level}", nc))
            if level == self.levels - 1:
                nodes.append(pieces.downsampling(self, f"in_conv_{level}", f"downsample_{level}", nc, factor))
                break
            for volume, key in own.items():
                crossed, made = f"{volume}_cross_{level}", f"{volume}_downsample_{level}"
                others = [other for other in own.values() if other != key]
                nodes.append(GatedSum([key, *others], [crossed], [nc] * len(own), dims=self.dims))
                nodes.append(pieces.downsampling(self, crossed, made, nc, factor))
                reads[volume] = made, nc
        return nodes

    def _join(self, reads: list[str], made: str, nc: int) -> Node:
        join: Any = _JOINS[self.fusion_join]
        node: Node = join(reads, [made], [nc] * len(reads), dims=self.dims)
        return node


def build_multimodal_unet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a U-Net that reads several volumes of one voxel size and fuses them early, late, or at every level.

    ``inputs`` names the volumes beside the raw data, as another contrast, another channel of a microscope, or the
    prediction of an earlier network. Early fusion is :func:`.build_unet`, which concatenates them. With late fusion
    each volume has a U-Net of its own, whose features are joined before outputs are made of them. With cross fusion
    each has an encoder of its own. At each level the features of all are joined for the decoder, and those of each
    other volume enter through gates before an encoder goes on. So encoders exchange features at every level, as those
    of HyperDense-Net do (Dolz et al. 2019, arXiv 1804.02967), which concatenates them.

    One input ``"input"`` (B, C, Z, Y, X), and ``"…_input"`` for each further volume; one output ``"output"``, all with
    voxels of ``top_resolution``; ``heads`` and ``deep_supervision`` add outputs.

    Args:
        top_resolution: voxel size (nm) of inputs and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.MultimodalUNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_multimodal_unet((8, 8, 8), base_nc=2, inputs={"ct": 1, "lsd": 10})
        >>> net.input_keys, net.graph.nodes["in_conv_0"].input_keys
        (('input', 'ct_input', 'lsd_input'), ('raw_in_conv_0', 'ct_in_conv_0', 'lsd_in_conv_0'))
    """
    return MultimodalUNetOptions.create(top_resolution=top_resolution, **arguments).build()
