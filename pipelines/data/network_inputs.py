"""The inputs of a network from a source: raw data and further volumes, in the world of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import gunpowder as gp
from funlib.geometry import Coordinate, Roi

from scalenet_gp.errors import ConfigError
from scalenet_gp.geometry import World
from scalenet_gp.inference import IntensityWindow
from scalenet_gp.leibnet import LeibNet
from scalenet_gp.nodes import MultiscaleSource
from scalenet_gp.nodes.sources import ToUnitRange
from scalenet_gp.pipelines.config import Config, Intensities
from scalenet_gp.pipelines.data.input_volume import InputVolume, stored_type
from scalenet_gp.pipelines.data.intensities import sample_raw
from scalenet_gp.pipelines.data.places import raw_roi, region_of
from scalenet_gp.pipelines.data.sources import Source
from scalenet_gp.volumes import ChunkCache, MultiscaleImage, Padding, read_separately

__all__ = ["NetworkInputs", "SeenVolume"]


@dataclass(frozen=True)
class SeenVolume:
    """A volume as a network sees it, at the voxel sizes of several arrays.

    Attributes:
        image: the volume.
        window: the stored values that the network sees as -1 and 1.
        voxel_sizes: the voxel size of each array, world units.
        world: the coordinates of the arrays.
        padding: the values beyond the volume.
    """

    image: MultiscaleImage
    window: IntensityWindow
    voxel_sizes: Mapping[gp.ArrayKey, Coordinate]
    world: World
    padding: Padding

    def stored(self) -> MultiscaleSource:
        """Return a source of the values as they are stored, padded without end."""
        return MultiscaleSource(self.image, self.voxel_sizes, self.world, padding=self.padding)

    def fractions(self, *, of_type: bool = False) -> gp.Pipeline:
        """Return :meth:`stored` with values as fractions of :attr:`.IntensityWindow.bounds`.

        Args:
            of_type: take fractions of an integer type's range here, too. Unless asked, they stay integers, of which
                :class:`.DeformAugment` takes fractions when it resamples them.
        """
        source, keys = self.stored(), self.voxel_sizes
        if not self.window.of_type:
            return source + ToUnitRange(*keys, bounds=self.window.bounds)
        return source + ToUnitRange(*keys) if of_type else gp.Pipeline(source)

    def scaled(self, chain: gp.Pipeline) -> gp.Pipeline:
        """Return ``chain`` with the arrays scaled from :meth:`fractions` to what the network sees."""
        for key in self.voxel_sizes:
            chain += gp.IntensityScaleShift(key, scale=self.window.scale, shift=self.window.shift)
        return chain


@dataclass(frozen=True)
class NetworkInputs:
    """The inputs of a network from a source: raw data, and further volumes.

    Attributes:
        run: the config of a run with this source alone.
        source: the source of the run file.
        raw: the raw volume.
        net: the network.
        world: the coordinates that all arrays share.
        cache: cache of the decoded chunks of all volumes.
    """

    run: Config
    source: Source
    raw: MultiscaleImage
    net: LeibNet
    world: World
    cache: ChunkCache

    @property
    def intensity_options(self) -> Intensities:
        """The intensities that the run file says for the raw volume."""
        given = self.source.config.intensities
        return self.run.data.intensities if given is None else given

    @property
    def intensity_field(self) -> str:
        """The field of the run file that says them."""
        own = self.source.config.intensities is not None
        return f"{self.source.field}.intensities" if own else "data.intensities"

    @cached_property
    def intensities(self) -> IntensityWindow:
        """The window of intensities that the network sees; sampled ones are those of the run, or of now."""
        stored, window = stored_type(self.raw), self.intensity_options
        if window == "auto":
            recorded = [one.intensities for one in self.run.learned_from if one.raw.path == self.raw.path]
            known = recorded[0] if recorded else None
            if known is None:
                known = read_separately(lambda: sample_raw(self.raw, self.net).window())
            window = known
        if window == "range":
            return IntensityWindow.of_range(stored)
        return IntensityWindow(stored, *window)

    @property
    def names(self) -> dict[str, str]:
        """The names of the volumes beside the raw data, by the network's inputs that read them."""
        return {tensor: name for tensor, name in self.run.network.volumes.items() if tensor in self.net.input_keys}

    @property
    def raw_keys(self) -> tuple[str, ...]:
        """The inputs of the network that read raw data."""
        return tuple(tensor for tensor in self.net.input_keys if tensor not in self.names)

    @cached_property
    def volumes(self) -> dict[str, InputVolume]:
        """The volumes beside the raw data, by their names.

        Raises:
            FileNotFoundError: one does not exist.
            VolumeFormatError: one cannot be read.
            ConfigError: the source has no such volume, or it has other axes or channels than the network's input.
        """
        opened: dict[str, InputVolume] = {}
        for tensor, name in self.names.items():
            path, field = self.source.config.inputs.get(name), f"{self.source.field}.inputs"
            if path is None:
                raise ConfigError(f"{field} has no {name!r}, which network.inputs reads")
            with self.source.naming_faults(f"inputs.{name}"):
                if name not in opened:
                    opened[name] = InputVolume.open(name, f"{field}.{name}", path, self.net.dims, self.cache)
                found, wanted = opened[name].image.channels, self.net.specs[tensor].channels
                if found != wanted:
                    raise ConfigError(
                        f"{path} has {found} channels, and the network's input {tensor!r} has {wanted}: give the "
                        f"network inputs: {{{name}: {found}}}"
                    )
        return opened

    @property
    def windows(self) -> dict[str, IntensityWindow]:
        """The window of intensities of every input of the network."""
        return {
            tensor: self.volumes[self.names[tensor]].window if tensor in self.names else self.intensities
            for tensor in self.net.input_keys
        }

    def see(self, keys: Mapping[str, gp.ArrayKey]) -> SeenVolume:
        """Return the raw volume at the voxel size of every tensor in ``keys``."""
        return self._seen(self.raw, self.intensities, keys)

    def all(self, keys: Mapping[str, gp.ArrayKey]) -> list[SeenVolume]:
        """Return the volumes that provide the network's inputs, raw data first.

        Args:
            keys: the array of every input.
        """
        raw = {tensor: keys[tensor] for tensor in self.raw_keys}
        seen = [self.see(raw)] if raw else []
        for name, volume in self.volumes.items():
            of_volume = {tensor: keys[tensor] for tensor, read in self.names.items() if read == name}
            seen.append(self._seen(volume.image, volume.window, of_volume))
        return seen

    def check_levels(self) -> None:
        """Check that the volumes have levels from which every input of the network can be made.

        Raises:
            LatticeError: they have not.
        """
        for tensor in self.net.input_keys:
            if tensor not in self.names:
                with self.source.naming_faults("raw"):
                    self.raw.roi(self.net.voxel_size[tensor], self.world)
            else:
                with self.source.naming_faults(f"inputs.{self.names[tensor]}"):
                    self.volumes[self.names[tensor]].image.roi(self.net.voxel_size[tensor], self.world)

    def check_directions(self) -> None:
        """Check that no augmentation turns a volume whose channels have directions: they would be those of before.

        Raises:
            ConfigError: one does.
        """
        directed = [volume for volume in self.volumes.values() if volume.directed]
        for number, options in enumerate(self.run.augmentation if directed else ()):
            for name in ("rotation_axes", "mirror_axes", "transpose_axes"):
                if getattr(options, name, ()):
                    raise ConfigError(
                        f"augmentation.{number}.{name} turns samples, and channels of {directed[0].field} have "
                        f"directions, such as {directed[0].channels[0]!r}, which would stay as they were: leave it out"
                    )

    def check_covered(self, needed: Mapping[str, Roi], describe: str) -> None:
        """Check that the volumes beside the raw data hold all that is read of them within the raw volume.

        Beyond the raw volume they are padded as it is.

        Args:
            needed: what is read of each input, world units.
            describe: the purpose, for the message.

        Raises:
            ConfigError: one does not.
            LatticeError: as :meth:`check_levels`.
        """
        for tensor, name in self.names.items():
            if tensor not in needed:
                continue
            size, image = self.net.voxel_size[tensor], self.volumes[name].image
            with self.source.naming_faults(f"inputs.{name}"):
                there = image.roi(size, self.world)
            inside = raw_roi(self.raw, self.world).snap_to_grid(size, mode="shrink")
            wanted = needed[tensor].intersect(inside)
            if wanted.empty or (not there.empty and there.contains(wanted)):
                continue
            covered = "nothing" if there.empty else region_of(there, self.raw, self.world)
            raise ConfigError(
                f"{self.source.field}.inputs.{name}: {image.path} covers {covered} from the raw volume's corner, and "
                f"{describe} reads {region_of(wanted, self.raw, self.world)} of it: predict that much of the raw "
                "volume with the earlier network, as with --region all"
            )

    def _seen(self, image: MultiscaleImage, window: IntensityWindow, keys: Mapping[str, gp.ArrayKey]) -> SeenVolume:
        sizes = {key: self.net.voxel_size[tensor] for tensor, key in keys.items()}
        return SeenVolume(image, window, sizes, self.world, self.run.data.padding)
