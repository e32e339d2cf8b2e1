"""A gunpowder source that takes every batch from one of many volumes, and opens them when they are drawn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, final

from gunpowder import Batch, BatchProvider, BatchRequest, Pipeline

from scalenet_gp.errors import ArgumentError, PipelineError
from scalenet_gp.nodes.samplers.random_volume import VolumeDraw, check_same_specs

__all__ = ["LazyRandomVolume"]


@final
class LazyRandomVolume(BatchProvider):
    """Take every batch from one of many volumes, each of which is opened when it is first drawn.

    :class:`RandomVolume` has all of its volumes open. Here at most ``most_open`` are, those that were drawn last. So
    memory and the time to the first batch do not depend on the number of volumes.

    The name of the volume is kept as ``"volume"`` in the JSON text ``array.attrs["location"]`` of every array.

    Args:
        weights: the weights of the volumes, in any unit.
        open_branch: returns the nodes that take a sample from the volume of a name, with a :class:`.SampleLocation` of
            its own. It has to be picklable where worker processes are not forked.
        most_open: number of volumes that are open at a time, in every process.
        replay: the text of ``array.attrs["location"]`` of an earlier batch, which is taken from the same volume.

    Raises:
        ArgumentError: weights that are negative or all 0; ``most_open`` below 1; ``replay`` is not such a text, or
            names another volume.
        PipelineError: when a volume is opened: an array is missing, or of another voxel size or type than in the first.

    Example:
        >>> import gunpowder as gp
        >>> import numpy as np
        >>> from scalenet_gp.nodes import MultiscaleSource
        >>> from scalenet_gp.volumes import MultiscaleImage
        >>> raw = gp.ArrayKey("RAW")
        >>> def open_branch(name):
        ...     voxels = np.full((4, 4, 4), int(name), np.uint8)
        ...     return MultiscaleSource(MultiscaleImage.from_arrays([voxels], [(8, 8, 8)]), {raw: (8, 8, 8)})
        >>> request = gp.BatchRequest({raw: gp.Roi((0, 0, 0), (32, 32, 32))})
        >>> with gp.build(LazyRandomVolume({"3": 1, "7": 0}, open_branch)) as source:
        ...     batch = source.request_batch(request)
        >>> int(batch[raw].data.max())
        3
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        open_branch: Callable[[str], Pipeline | BatchProvider],
        *,
        most_open: int = 16,
        replay: str | None = None,
    ) -> None:
        self.draw = VolumeDraw(weights, replay)
        if most_open < 1:
            raise ArgumentError(f"most_open is {most_open}; one volume has to be open")
        self.most_open = most_open
        self._open_branch = open_branch
        self._opened: OrderedDict[str, Pipeline] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": OrderedDict()}

    def setup(self) -> None:
        """Announce the arrays of a volume; the others have to have the same."""
        self.enable_placeholders()
        for key, spec in self._branch(self.draw.first).spec.array_specs.items():
            if not spec.nonspatial:
                self.provides(key, spec)

    def provide(self, request: BatchRequest) -> Batch:
        """Draw a volume and ask its branch."""
        name = self.draw.name(request, type(self).__name__)
        return self.draw.record(self._branch(name).output.request_batch(request), name)

    def teardown(self) -> None:
        while self._opened:
            self._close_oldest()

    def _branch(self, name: str) -> Pipeline:
        """Return the branch of a volume, opened."""
        if name in self._opened:
            self._opened.move_to_end(name)
            return self._opened[name]
        branch = self._open_branch(name)
        branch = Pipeline(branch) if isinstance(branch, BatchProvider) else branch
        try:
            branch.setup()
            if self.spec is not None:
                missing = [str(key) for key in self.spec.array_specs if key not in branch.spec]
                if missing:
                    raise PipelineError(f"{name} does not provide {', '.join(missing)}, which {self.draw.first} does")
                check_same_specs(self.spec, self.draw.first, branch.spec, name)
        except BaseException:
            branch.internal_teardown()
            raise
        self._opened[name] = branch
        if len(self._opened) > self.most_open:
            self._close_oldest()
        return branch

    def _close_oldest(self) -> None:
        _, branch = self._opened.popitem(last=False)
        branch.internal_teardown()
