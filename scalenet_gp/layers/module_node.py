"""Any torch module as a node, with a declared ROI rule that is checked by trial."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import chain

import torch
from funlib.geometry import Coordinate, Roi
from torch import Tensor, nn

from scalenet_gp.errors import ArgumentError
from scalenet_gp.graph import TensorSpec
from scalenet_gp.kernels import GroupNormGuard, channels_last
from scalenet_gp.layers.checks import is_whole
from scalenet_gp.layers.same_lattice import SameLattice

__all__ = ["ModuleNode"]


class ModuleNode(SameLattice):
    """A module that is called with one tensor (B, C, Z, Y, X) per input and returns one, or a tuple of one per output.

    It reads a block of voxels and ``margin`` voxels around it and makes the block: voxel for voxel, or one voxel per
    ``downsample`` voxels, or ``upsample`` voxels per voxel. The declaration is checked when the node is built, by
    calling copies of the module with a few small tensors of random numbers. In evaluation and in training mode, shapes
    and channels have to be as declared, and no input may be written to. In evaluation mode, parts computed alone have
    to agree with the whole (unless ``tileable`` is False), and every input and the outermost voxels read on every side
    have to matter. Neither the module nor torch's random state is changed.

    The module gets channels-last tensors. A fault of torch's group normalization with these is worked around (see
    :mod:`scalenet_gp.kernels.group_norm`).

    A node that is given a module cannot be written to a spec. To write a kind of node that can, derive a class that
    takes names and numbers and makes the module from them::

        class Blur(ModuleNode):
            def __init__(self, input_keys, output_keys, sigma: float, identifier: str | None = None):
                blur = GaussianBlur(sigma)
                super().__init__(input_keys, output_keys, blur, [1], [1], [blur.radius] * 3, identifier=identifier)

    Args:
        input_keys: the tensors read, of one voxel size.
        output_keys: the tensors made, of one voxel size.
        module: the module that computes them.
        input_ncs: channels of every input.
        output_ncs: channels of every output.
        margin: voxels of the inputs that it reads beyond the block, on either side of each axis.
        downsample: voxels of the inputs per voxel of the outputs, per axis; one unless given.
        upsample: voxels of the outputs per voxel of the inputs, per axis; one unless given.
        tileable: True if an output voxel depends on the block and the margin alone; False if the module pads its input
            or depends on all of it, as instance normalization does.
        identifier: name in the graph.

    Raises:
        ArgumentError: an argument is out of its range, or the module does not do what is declared; the message says
            what it does instead.

    Example:
        >>> import torch
        >>> ModuleNode(["raw"], ["smooth"], torch.nn.AvgPool3d(3, stride=1), [1], [1], margin=(1, 1, 1)).tileable
        True
    """

    margin: Coordinate

    def __init__(
        self,
        input_keys: Sequence[str],
        output_keys: Sequence[str],
        module: nn.Module,
        input_ncs: Sequence[int],
        output_ncs: Sequence[int],
        margin: Sequence[int],
        downsample: Sequence[int] | None = None,
        upsample: Sequence[int] | None = None,
        tileable: bool = True,
        identifier: str | None = None,
    ) -> None:
        super().__init__(input_keys, output_keys, identifier)
        if not isinstance(module, nn.Module):
            raise ArgumentError(f"{self.identifier}: module is a torch.nn.Module, not {module!r}")
        numbers = (len(input_ncs), len(output_ncs))
        if numbers != (len(self.input_keys), len(self.output_keys)) or not all(
            map(is_whole, [*input_ncs, *output_ncs])
        ):
            raise ArgumentError(
                f"{self.identifier}: every tensor has its number of channels, whole and from 1 up: {list(input_keys)} "
                f"those of {list(input_ncs)}, {list(output_keys)} those of {list(output_ncs)}"
            )
        if downsample is not None and upsample is not None:
            raise ArgumentError(f"{self.identifier}: a node makes voxels coarser or finer, not both")
        self.dims = len(margin)
        self.margin = Coordinate(self._whole("margin", margin, 0))
        self.coarsening = self._whole("downsample", (1,) * self.dims if downsample is None else downsample, 1)
        self.refining = self._whole("upsample", (1,) * self.dims if upsample is None else upsample, 1)
        self.input_ncs = tuple(input_ncs)
        self.output_ncs = tuple(output_ncs)
        self._tileable = tileable
        _Trial(self, module).run()
        self.module = module

    @property
    def tileable(self) -> bool:
        return self._tileable

    def output_channels(self, *input_channels: int) -> tuple[int, ...]:
        if input_channels != self.input_ncs:
            raise ArgumentError(f"it takes tensors of {self.input_ncs} channels, its inputs have {input_channels}")
        return self.output_ncs

    def output_specs(self, *inputs: TensorSpec) -> tuple[TensorSpec, ...]:
        same = super().output_specs(*inputs)
        sizes = zip(same[0].voxel_size, self.coarsening, self.refining, strict=True)
        voxel_size = tuple(size * coarsening / refining for size, coarsening, refining in sizes)
        return tuple(TensorSpec(voxel_size, spec.channels) for spec in same)

    def input_roi(self, output_roi: Roi) -> Roi:
        return super().input_roi(output_roi.snap_to_grid(self.input_voxel_size, mode="grow"))

    def output_roi(self, input_roi: Roi) -> Roi:
        return super().output_roi(input_roi).snap_to_grid(self.output_voxel_size, mode="shrink")

    def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        with GroupNormGuard():
            made = self.module(*tensors)
        return channels_last(made) if isinstance(made, Tensor) else tuple(map(channels_last, made))

    def _whole(self, name: str, numbers: Sequence[int], least: int) -> tuple[int, ...]:
        whole = tuple(int(number) for number in numbers)
        if len(whole) not in (2, 3) or len(whole) != self.dims or whole != tuple(numbers) or min(whole) < least:
            raise ArgumentError(
                f"{self.identifier}: margin, downsample and upsample have the same 2 or 3 axes, and {name} takes whole "
                f"numbers from {least} up, not {tuple(numbers)}"
            )
        return whole


class _Trial:
    """Checks that a module does what its node declares, by calling a copy of it with random numbers."""

    def __init__(self, node: ModuleNode, module: nn.Module) -> None:
        self.node = node
        self.axes = tuple(zip(node.margin, node.coarsening, node.refining, strict=True))
        self.module = deepcopy(module).eval()
        self.in_training = deepcopy(module).train()
        weights = (w for w in chain(self.module.parameters(), self.module.buffers()) if w.is_floating_point())
        weight = next(weights, torch.empty(0))
        self.device, self.dtype = weight.device, torch.promote_types(weight.dtype, torch.float32)
        self.module.to(self.dtype)
        self.in_training.to(self.dtype)
        self.generator = torch.Generator().manual_seed(0)

    def run(self) -> None:
        """Raise :class:`.ArgumentError` if it does not."""
        blocks = tuple(range(3, 3 + len(self.axes)))  # another number on each axis, so that none stands for another
        one = (1,) * len(self.axes)
        read = [n * coarsening + 2 * margin for n, (margin, coarsening, _) in zip(blocks, self.axes, strict=True)]
        with torch.no_grad(), torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            inputs = [channels_last(self._random(2, nc, *read)) for nc in self.node.input_ncs]
            whole = self._made(inputs, blocks)
            self._made(inputs, blocks, training=True)
            if self.node.tileable:
                for first, past in (((0,) * len(one), [n - 1 for n in blocks]), (one, blocks), (one, [2] * len(one))):
                    self._compare(inputs, whole, first, past)
            self._matter(inputs, blocks)
            self._reach(inputs, whole, blocks)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=self.dtype).to(self.device)

    def _made(self, inputs: Sequence[Tensor], blocks: Sequence[int], training: bool = False) -> list[Tensor]:
        """Return the module's output for ``blocks`` blocks with margins, after a check of its declared shapes."""
        when = "in training, " if training else ""
        before = [tensor.clone() for tensor in inputs]
        try:
            made = (self.in_training if training else self.module)(*inputs)
        except Exception as error:  # a module may raise anything
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
            raise self._wrong(f"{when}it cannot take tensors of the shapes {shapes}: {error}") from error
        if not all(map(torch.equal, inputs, before)):
            raise self._wrong(f"{when}it writes to its input, which other nodes may read too")
        tensors = made if isinstance(made, tuple | list) else (made,)
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            raise self._wrong(f"{when}it returns neither a tensor nor a tuple of tensors, but a {type(made).__name__}")
        voxels = tuple(n * refining for n, (_, _, refining) in zip(blocks, self.axes, strict=True))
        expected = [(nc, *voxels) for nc in self.node.output_ncs]
        found = [tuple(tensor.shape[1:]) for tensor in tensors]
        if found != expected:
            read = [tuple(tensor.shape[1:]) for tensor in inputs]
            raise self._wrong(
                f"{when}of {_listed(read)} it makes {_listed(found)} (channels, voxels), not {_listed(expected)}"
            )
        return [tensor.to(self.dtype).nan_to_num() for tensor in tensors]

    def _compare(
        self, inputs: Sequence[Tensor], whole: Sequence[Tensor], first: Sequence[int], past: Sequence[int]
    ) -> None:
        """Compute the blocks from ``first`` up to ``past`` alone."""
        ranges = list(zip(first, past, self.axes, strict=True))
        read = [slice(f * coarsening, p * coarsening + 2 * margin) for f, p, (margin, coarsening, _) in ranges]
        part = [slice(f * refining, p * refining) for f, p, (_, _, refining) in ranges]
        alone = self._made([tensor[:, :, *read] for tensor in inputs], [p - f for f, p, _ in ranges])
        for tensor, together in zip(alone, whole, strict=True):
            differs = (tensor - together[:, :, *part]).abs().max()
            if differs > together.abs().max() * torch.finfo(self.dtype).eps ** 0.5:
                raise self._wrong(
                    f"a part computed alone differs by up to {differs:.3g} from the same part of the whole: it needs "
                    "a larger margin, does not move with its input voxel by voxel, or depends on the extent of its "
                    "input, as if that is padded or normalized; tileable=False declares the last"
                )

    def _matter(self, inputs: Sequence[Tensor], blocks: Sequence[int]) -> None:
        """Change each input by itself, with small values and with large ones, which open gates that are shut."""
        for index, key in enumerate(self.node.input_keys):
            for size in (1, 4, 64, 1024):
                before = [size * tensor for tensor in inputs]
                after = [*before[:index], size * self._random(*inputs[index].shape), *before[index + 1 :]]
                if not all(map(torch.equal, self._made(before, blocks), self._made(after, blocks))):
                    break
            else:
                raise self._wrong(f"its output does not depend on its input {key!r}")

    def _reach(self, inputs: Sequence[Tensor], whole: Sequence[Tensor], blocks: Sequence[int]) -> None:
        """Change the outermost voxels on each side of each axis."""
        unread = [
            [self._unread(inputs, whole, blocks, axis, from_above) for axis in range(2, inputs[0].dim())]
            for from_above in (False, True)
        ]
        if any(map(any, unread)):
            below, above = (
                tuple(margin - n for (margin, _, _), n in zip(self.axes, side, strict=True)) for side in unread
            )
            shift = "" if below == above else ", so it shifts its input by half a voxel or more"
            raise self._wrong(f"it depends on no more than {below} voxels below and {above} above the block{shift}")

    def _unread(
        self, inputs: Sequence[Tensor], whole: Sequence[Tensor], blocks: Sequence[int], axis: int, from_above: bool
    ) -> int:
        """Return the number of planes of voxels, counted from outside, that do not matter."""
        size = inputs[0].shape[axis]
        for depth in range(size):
            changed = [tensor.clone() for tensor in inputs]
            for tensor in changed:
                plane = tensor.select(axis, size - 1 - depth if from_above else depth)
                plane.copy_(4 * self._random(*plane.shape).sign())  # so large that a maximum or a threshold notices
            if not all(map(torch.equal, self._made(changed, blocks), whole)):
                return depth
        raise self._wrong("its output does not depend on any single plane of its input")

    def _wrong(self, found: str) -> ValueError:
        node = self.node
        return ArgumentError(
            f"{node.identifier}: the module is not what is declared, margin {tuple(node.margin)}, downsample "
            f"{node.coarsening}, upsample {node.refining}, tileable {node.tileable}: {found}"
        )


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))
