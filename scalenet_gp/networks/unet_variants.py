"""U-Nets that differ from one another by their blocks, their bottleneck or the shape of their kernels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length, exact_size
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.forms import SingleInputOptions
from scalenet_gp.networks.options import Normalization
from scalenet_gp.networks.unet import assemble_unet
from scalenet_gp.networks.unet_options import UNetOptions
from scalenet_gp.options import Whole

__all__ = [
    "AttentionUNetOptions",
    "ConvNeXtUNetOptions",
    "HybridUNetOptions",
    "MobileUNetOptions",
    "TransUNetOptions",
    "build_attention_unet",
    "build_convnext_unet",
    "build_hybrid_unet",
    "build_mobile_unet",
    "build_transunet",
]


class _Variant(UNetOptions, SingleInputOptions):
    """Abstract: options of a U-Net with other defaults."""

    @property
    @abstractmethod
    def network_name(self) -> str:
        """The network's name in tables and messages."""

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        return assemble_unet(self, self.network_name)


class AttentionUNetOptions(_Variant):
    """Options of :func:`build_attention_unet`: ``{kind: attention_unet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``attention_unet``.

    Example:
        >>> AttentionUNetOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'AttentionUNet'
    """

    kind: Literal["attention_unet"] = "attention_unet"
    attention_gates: Literal[True] = True

    @property
    def network_name(self) -> str:
        """The network's name in tables and messages."""
        return "AttentionUNet"


class TransUNetOptions(_Variant):
    """Options of :func:`build_transunet`: ``{kind: transunet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``transunet``.
        bottleneck: ``transformer``.
        transformer_layers: transformer blocks after the bottleneck's pass; 12 as in the paper unless given.

    Example:
        >>> TransUNetOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'TransUNet'
    """

    kind: Literal["transunet"] = "transunet"
    bottleneck: Literal["transformer"] = "transformer"
    transformer_layers: Whole = 12

    @property
    def network_name(self) -> str:
        """The network's name in tables and messages."""
        return "TransUNet"


class MobileUNetOptions(_Variant):
    """Options of :func:`build_mobile_unet`: ``{kind: mobile_unet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``mobile_unet``.
        block: ``inverted_residual``.
        activation: of all passes: the name of a module of ``torch.nn``; that of the paper unless given.
        width_multiplier: factor of the channels of every level, which are rounded to multiples of 4.

    Example:
        >>> MobileUNetOptions.create(top_resolution=(8, 8, 8), base_nc=16, width_multiplier=0.5).channels(1)
        16
    """

    kind: Literal["mobile_unet"] = "mobile_unet"
    block: Literal["inverted_residual"] = "inverted_residual"
    activation: str | None = "ReLU6"
    width_multiplier: Annotated[float, Field(gt=0, le=4)] = 1.0

    @property
    def network_name(self) -> str:
        """The network's name in tables and messages."""
        return "MobileUNet"

    def channels(self, level: int) -> int:
        """Return the channels of the passes at ``level``; that of the bottleneck is :attr:`levels`."""
        channels = super().channels(level)
        if self.width_multiplier == 1:
            return channels
        return max(4, round(channels * self.width_multiplier / 4) * 4)


class ConvNeXtUNetOptions(_Variant):
    """Options of :func:`build_convnext_unet`: ``{kind: convnext_unet, top_resolution: [8, 8, 8]}``.

    Attributes:
        kind: ``convnext_unet``.
        block: ``convnext``.
        activation: of all passes: the name of a module of ``torch.nn``; that of the paper unless given.
        norm_layer: normalization in all blocks; that of the paper, of the channels of each voxel, unless given.

    Example:
        >>> ConvNeXtUNetOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'ConvNeXtUNet'
    """

    kind: Literal["convnext_unet"] = "convnext_unet"
    block: Literal["convnext"] = "convnext"
    activation: str | None = "GELU"
    norm_layer: Normalization | None = "layer"

    @property
    def network_name(self) -> str:
        """The network's name in tables and messages."""
        return "ConvNeXtUNet"


class HybridUNetOptions(_Variant):
    """Options of :func:`build_hybrid_unet`: ``{kind: hybrid_unet, top_resolution: [40, 4, 4]}``.

    Attributes:
        kind: ``hybrid_unet``.
        depth: number of times that the network downsamples, where ``downsample_factors`` does not say it; 3 unless
            given.

    Example:
        >>> options = HybridUNetOptions.create(top_resolution=(40, 8, 8))
        >>> options.factors, options.kernels(0)
        ([(1, 2, 2), (1, 2, 2), (2, 2, 2)], [(1, 3, 3), (1, 3, 3)])
    """

    kind: Literal["hybrid_unet"] = "hybrid_unet"
    depth: Whole | None = None

    @model_validator(mode="after")
    def _check_depth(self) -> Self:
        if self.depth is not None and self.downsample_factors is not None:
            raise ArgumentError(
                f"downsample_factors says how often the network downsamples; leave out depth, here {self.depth}"
            )
        return self

    @property
    def network_name(self) -> str:
        """The network's name in tables and messages."""
        return "HybridUNet"

    @property
    def factors(self) -> list[tuple[int, ...]]:
        """The downsampling factors, from the finest level: 2 along the axes that are not yet too coarse."""
        if self.downsample_factors is not None:
            return list(self.downsample_factors)
        factors = []
        size = exact_size(self.top_resolution)
        for _ in range(self.depth or 3):
            factors.append(tuple(1 if coarse else 2 for coarse in _coarse_axes(size)))
            size = tuple(length * factor for length, factor in zip(size, factors[-1], strict=True))
        return factors

    def kernels(self, level: int) -> list[tuple[int, ...]]:
        """Return the kernels of the passes at ``level``: of one voxel along axes that are too coarse there."""
        if self.kernel_sizes is not None:
            return super().kernels(level)
        kernel = tuple(1 if coarse else 3 for coarse in _coarse_axes(self.level_size(level)))
        return [kernel] * (self.convs_per_level or 2)


def _coarse_axes(size: tuple[Fraction, ...]) -> list[bool]:
    """Return for each axis whether its voxels are more than twice as long as along the finest."""
    return [length > 2 * min(size) for length in size]


def build_attention_unet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return an Attention U-Net (Oktay et al. 2018, arXiv 1804.03999).

    It is :func:`.build_unet` whose skip connections each pass an :class:`.AttentionGate`. The paper's gate compares the
    skip connection, made coarser, with the coarser tensor and interpolates the map; here the upsampled coarser tensor
    is compared at the voxels of the skip connection. With ``bottleneck="transformer"`` the bottleneck attends to
    itself, and tiles do not equal the whole.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.UNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> build_attention_unet((8, 8, 8), base_nc=2).graph.nodes["attention_gate_0"].input_keys
        ('in_conv_0', 'upsample_0')
    """
    return AttentionUNetOptions.create(top_resolution=top_resolution, **arguments).build()


def build_transunet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a TransUNet (Chen et al. 2021, arXiv 2102.04306): a U-Net with transformers in its bottleneck.

    Voxels of the bottleneck are the tokens of ``transformer_layers`` pre-norm layers. Each adds sinusoidal positions
    that count from the tensor's first voxel (the paper learns one position per token, for one size of input), and every
    voxel attends to every other: tiles do not equal the whole, and prediction blends overlapping ones. The paper's
    ResNet-50 is replaced by the passes that the options describe, and it has 12 heads of 768 channels.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.TransUNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_transunet((8, 8, 8), base_nc=2, transformer_layers=2)
        >>> net.tileable, net.graph.nodes["bottleneck_transformer"].input_keys
        (False, ('bottleneck_transformer_1',))
    """
    return TransUNetOptions.create(top_resolution=top_resolution, **arguments).build()


def build_mobile_unet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a Mobile U-Net: a U-Net of inverted residuals.

    Its passes are :class:`.InvertedResiduals` (MobileNetV2, Sandler et al. 2018, arXiv 1801.04381) and its
    width multiplier is that of MobileNets (Howard et al. 2017, arXiv 1704.04861).

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.MobileUNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_mobile_unet((8, 8, 8), base_nc=4)
        >>> type(net.graph.nodes["bottleneck"]).__name__
        'InvertedResiduals'
    """
    return MobileUNetOptions.create(top_resolution=top_resolution, **arguments).build()


def build_convnext_unet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a U-Net of ConvNeXt blocks, as MedNeXt is (Roy et al. 2023, arXiv 2303.09975).

    Its passes are :class:`.ConvNeXtBlocks` (Liu et al. 2022, arXiv 2201.03545). MedNeXt's own up- and downsampling
    blocks are replaced by the ``downsample_mode`` and ``upsample_mode``, and skip connections are joined, not added.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.ConvNeXtUNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_convnext_unet((8, 8, 8), base_nc=2, kernel_sizes=[(5, 5, 5)])
        >>> net.tileable, type(net.graph.nodes["bottleneck"]).__name__
        (True, 'ConvNeXtBlocks')
    """
    return ConvNeXtUNetOptions.create(top_resolution=top_resolution, **arguments).build()


def build_hybrid_unet(top_resolution: Sequence[Length] = (40, 4, 4), **arguments: Any) -> LeibNet:
    """Return a hybrid of a 2D and a 3D U-Net, for sections that are thicker than their pixels are wide.

    Along an axis whose voxels are more than twice as long as along the finest, kernels have one voxel and nothing is
    downsampled. So fine levels work within sections, and coarse ones, whose voxels are nearly cubes, across them. The
    idea is that of the 3D U-Net of Lee et al. 2017 (arXiv 1706.00120) for serial sections; the rule is nnU-Net's
    (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z). With voxels that are cubes it is :func:`.build_unet`.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.HybridUNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_hybrid_unet((40, 4, 4), base_nc=2)
        >>> net.voxel_size["bottleneck"], net.graph.nodes["in_conv_0"].margin, net.graph.nodes["bottleneck"].margin
        ((40, 32, 32), (0, 2, 2), (2, 2, 2))
    """
    return HybridUNetOptions.create(top_resolution=top_resolution, **arguments).build()
