"""The variational autoencoder: a U-Net without its skip connections, for self-supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import model_validator

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length
from scalenet_gp.layers import VariationalBottleneck
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.parts import Parts
from scalenet_gp.networks.unet_options import EncoderDecoderOptions
from scalenet_gp.options import Whole

__all__ = ["AutoencoderOptions", "assemble_autoencoder", "build_autoencoder"]


class AutoencoderOptions(EncoderDecoderOptions):
    """Options of :func:`build_autoencoder`. Its output has the channels of its input.

    Attributes:
        latent_nc: channels of the latent tensor.

    Example:
        >>> AutoencoderOptions.create(top_resolution=(8, 8, 8), latent_nc=3).output_channels
        1
    """

    latent_nc: Whole

    @property
    def output_channels(self) -> int:
        """Channels of ``"output"``: those of the input."""
        return self.input_nc

    @model_validator(mode="after")
    def _gate_nothing(self) -> AutoencoderOptions:
        if self.attention_gates:
            raise ArgumentError(
                "an autoencoder has no skip connections, so there is nothing for attention_gates to gate"
            )
        return self


def build_autoencoder(
    top_resolution: Sequence[Length] = (8, 8, 8), *, latent_nc: int, input_nc: int = 1, **arguments: Any
) -> LeibNet:
    """Return a variational autoencoder with the encoder and decoder of a U-Net.

    After Kingma and Welling 2014, arXiv 1312.6114.

    One input ``"input"`` (B, ``input_nc``, Z, Y, X). The outputs are ``"output"``, as many channels of the same voxel
    size, decoded from what was drawn; and ``"mean"`` and ``"log_variance"`` of the normal distribution that it is drawn
    from, ``latent_nc`` channels each at the coarsest voxel size: what the loss needs, and, once trained, the features.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        latent_nc: channels of the latent tensor.
        input_nc: channels of input and output.
        **arguments: see :class:`scalenet_gp.networks.UNetOptions`; not ``output_nc``.

    Raises:
        ArgumentError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: an argument does not exist.

    Example:
        >>> build_autoencoder(latent_nc=3, base_nc=2).output_keys
        ('output', 'mean', 'log_variance')
    """
    return assemble_autoencoder(
        AutoencoderOptions.create(top_resolution=top_resolution, latent_nc=latent_nc, input_nc=input_nc, **arguments)
    )


def assemble_autoencoder(options: AutoencoderOptions) -> LeibNet:
    """Return the autoencoder of these options."""
    parts = Parts(options)
    encoder = parts.encoder()
    bottleneck, coarsest = parts.bottleneck(parts.encoded)
    latent = VariationalBottleneck(
        [coarsest],
        ["sample", "mean", "log_variance"],
        options.channels(options.levels),
        options.latent_nc,
        dims=options.dims,
    )
    decoder = parts.decoder("sample", options.latent_nc, skips=False)
    outputs = parts.outputs()
    keys = [*(node.output_keys[0] for node in outputs), "mean", "log_variance"]
    nodes = [*encoder, *bottleneck, latent, *decoder, *outputs]
    return LeibNet(nodes, parts.inputs(), keys, name="Autoencoder")
