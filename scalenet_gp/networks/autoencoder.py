"""The variational autoencoder: a U-Net without its skip connections, for self-supervision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scalenet_gp.errors import ArgumentError
from scalenet_gp.geometry import Length
from scalenet_gp.layers import VariationalBottleneck
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.networks.options import UNetOptions
from scalenet_gp.networks.parts import Parts

__all__ = ["build_autoencoder"]


def build_autoencoder(
    top_resolution: Sequence[Length] = (8, 8, 8), *, latent_nc: int, input_nc: int = 1, **arguments: Any
) -> LeibNet:
    """A variational autoencoder (Kingma and Welling 2014, arXiv 1312.6114) with the encoder and decoder of a U-Net.

    One input ``"input"`` (B, ``input_nc``, Z, Y, X). The outputs are ``"output"``, as many channels of the same voxel
    size, decoded from what was drawn; and ``"mean"`` and ``"log_variance"`` of the normal distribution that it is drawn
    from, ``latent_nc`` channels each at the coarsest voxel size: what the loss needs, and, once trained, the features.

    Args:
        top_resolution: voxel size (nm) of input and output; two or three axes.
        latent_nc: channels of the latent tensor.
        input_nc: channels of input and output.
        **arguments: see :class:`scalenet_gp.networks.UNetOptions`; not ``output_nc``.

    Raises:
        ValueError: an argument is of another type or out of its range, or two of them contradict each other.
        TypeError: there is no such argument.
    """
    options = UNetOptions(top_resolution, input_nc=input_nc, output_nc=input_nc, **arguments)
    if options.attention_gates:
        raise ArgumentError("an autoencoder has no skip connections, so there is nothing for attention_gates to gate")
    parts = Parts(options)
    encoder = parts.encoder()
    bottleneck, coarsest = parts.bottleneck(parts.encoded)
    latent = VariationalBottleneck(
        [coarsest], ["sample", "mean", "log_variance"], options.channels(options.levels), latent_nc, dims=options.dims
    )
    decoder = parts.decoder("sample", latent_nc, skips=False)
    outputs = parts.outputs()
    keys = [*(node.output_keys[0] for node in outputs), "mean", "log_variance"]
    nodes = [*encoder, *bottleneck, latent, *decoder, *outputs]
    return LeibNet(nodes, {"input": options.input_spec}, keys, name="Autoencoder")
