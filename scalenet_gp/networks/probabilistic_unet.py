"""The probabilistic U-Net: samples of segmentations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length
from scalenet_gp.graph import Node, TensorSpec
from scalenet_gp.layers import Concatenate, GlobalMean, LatentHead, Upsample
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks import pieces
from scalenet_gp.networks.forms import SingleInputOptions
from scalenet_gp.networks.options import Flag
from scalenet_gp.networks.parts import Parts
from scalenet_gp.networks.sketch import Sketch
from scalenet_gp.networks.unet_options import UNetOptions
from scalenet_gp.options import Whole

__all__ = ["ProbabilisticUNetOptions", "build_probabilistic_unet"]

_ANNOTATION = "annotation_input"


class ProbabilisticUNetOptions(UNetOptions, SingleInputOptions):
    """Options of :func:`build_probabilistic_unet`.

    Attributes:
        kind: ``probabilistic_unet``.
        latent_nc: channels of the distributions; 6 as in the paper.
        annotation_nc: channels of ``"annotation_input"``; as many as the output has unless given.
        samples: number of samples whose mean and variance are made.
        sample_seed: seed of their noise.
        global_latent: the distributions are those of the mean over their encoder's whole output, as in the paper. Tiles
            do not equal the whole then. Unless asked for, each voxel of the coarsest level has its own.
        num_final_convs: convolutions that make an output of features and a sample; 3 as in the authors' code.

    Example:
        >>> ProbabilisticUNetOptions.create(top_resolution=(8, 8, 8), base_nc=2).build().name
        'ProbabilisticUNet'
    """

    kind: Literal["probabilistic_unet"] = "probabilistic_unet"
    latent_nc: Whole = 6
    annotation_nc: Whole | None = None
    samples: Whole = 16
    sample_seed: Annotated[int, Field(ge=0, strict=True)] = 0
    global_latent: Flag = False
    num_final_convs: Whole = 3

    @model_validator(mode="after")
    def _check_outputs(self) -> Self:
        if self.heads or self.deep_supervision or not self.output_channels:
            raise ArgumentError(
                "a probabilistic U-Net makes one output of features and samples: leave out heads and deep_supervision, "
                "and give an output_nc above 0"
            )
        if "annotation" in self.inputs:
            raise ArgumentError(f"inputs has 'annotation', but {_ANNOTATION!r} is what the posterior reads: rename it")
        return self

    def assemble(self) -> LeibNet:
        """Return the network of these options."""
        parts = Parts(self)
        unet = parts.unet()
        annotation = TensorSpec(self.level_size(0), self.annotation_nc or self.output_channels)
        inputs = {**parts.inputs(), _ANNOTATION: annotation}
        raw, nc = parts.read_first, sum(spec.channels for spec in self.input_specs.values())
        joined = Concatenate([raw, _ANNOTATION], ["posterior_join"])
        nodes = [*unet.nodes, *self._distribution("prior", raw, nc)]
        nodes += [joined, *self._distribution("posterior", "posterior_join", nc + annotation.channels)]
        nodes.append(self._head("posterior", ["posterior_output"], unet.features, unet.features_nc))
        made = ["output", "variance", *(f"sample_{number}" for number in range(self.samples))]
        nodes.append(
            self._head(
                "prior",
                made,
                unet.features,
                unet.features_nc,
                samples=self.samples,
                seed=self.sample_seed,
                weights_of="posterior_output",
            )
        )
        latent = [f"{which}_{what}" for which in ("posterior", "prior") for what in ("mean", "log_variance")]
        return LeibNet(nodes, inputs, [*made, "posterior_output", *latent], name="ProbabilisticUNet")

    def _distribution(self, prefix: str, read: str, nc: int) -> list[Node]:
        """Return an encoder and the nodes that make a distribution of its coarsest tensor, there and at level 0."""
        nodes: list[Node] = []
        of_input = read != "posterior_join"
        for level in range(self.levels + 1):
            made = f"{prefix}_conv_{level}"
            nodes.append(pieces.conv_pass(self, read, made, nc, level, of_input=of_input and not level))
            read, nc = made, self.channels(level)
            if level < self.levels:
                read = f"{prefix}_downsample_{level}"
                nodes.append(pieces.downsampling(self, made, read, nc, self.factors[level]))
        if self.global_latent:
            nodes.append(GlobalMean([read], [f"{prefix}_global"]))
            read = f"{prefix}_global"
        factor = Sketch(self).factor(0, self.levels)
        for what in ("mean", "log_variance"):
            made = f"{prefix}_{what}"
            nodes.append(pieces.point_conv(self, read, made, nc, self.latent_nc))
            nodes.append(Upsample([made], [f"{made}_upsample"], factor))
        return nodes

    def _head(self, prefix: str, made: list[str], features: str, features_nc: int, **options: Any) -> LatentHead:
        read = [features, f"{prefix}_mean_upsample", f"{prefix}_log_variance_upsample"]
        return LatentHead(
            read,
            made,
            features_nc,
            self.latent_nc,
            self.output_channels,
            self.hidden_ncs,
            self.activation,
            self.output_activation,
            dims=self.dims,
            **options,
        )


def build_probabilistic_unet(top_resolution: Sequence[Length] = (8, 8, 8), **arguments: Any) -> LeibNet:
    """Return a probabilistic U-Net (Kohl et al. 2018, arXiv 1806.05034), which samples segmentations.

    Beside a U-Net are two encoders. The prior net reads the raw data, the posterior net the raw data and the annotation
    ``"annotation_input"``; each makes ``"…_mean"`` and ``"…_log_variance"`` of a normal distribution. A
    :class:`.LatentHead` makes an output of the U-Net's features and a sample.

    To train, give ``"posterior_output"`` a loss, which is made of a sample of the posterior, and the divergence of the
    posterior from the prior to the trainer as a joint loss. To predict, ask for ``"output"``, the mean over samples of
    the prior, their ``"variance"``, or ``"sample_0"`` and so on; these need no annotation.

    In the paper both distributions are those of a whole image, pooled over it. That does not tile: with
    ``global_latent`` ``net.tileable`` is False, and prediction blends overlapping tiles, whose priors differ. By
    default, each voxel of the coarsest level has a distribution of its own, of what its receptive field sees. A sample
    has one noise for all voxels, so that it is smooth across voxels, the same in each block, and tiles equal the whole;
    the divergence is the mean of those of the voxels. What such a sample cannot do is vary independently in places far
    apart.

    One input ``"input"`` (B, C, Z, Y, X), and ``"annotation_input"``, all with voxels of ``top_resolution``.

    Args:
        top_resolution: voxel size (nm) of inputs and outputs; two or three axes.
        **arguments: see :class:`scalenet_gp.networks.ProbabilisticUNetOptions`.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> net = build_probabilistic_unet((8, 8, 8), base_nc=2, samples=2)
        >>> net.output_keys[:5], net.tileable
        (('output', 'variance', 'sample_0', 'sample_1', 'posterior_output'), True)
        >>> list(net.plan({"variance": net.smallest_plan.outputs["variance"]}).inputs)
        ['input']
    """
    return ProbabilisticUNetOptions.create(top_resolution=top_resolution, **arguments).build()
