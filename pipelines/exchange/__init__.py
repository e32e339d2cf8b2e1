"""Import of other programs' volumes into OME-Zarr, and export out of it."""

from scalenet_gp.pipelines.exchange.export_job import export_volume
from scalenet_gp.pipelines.exchange.import_job import import_volume

__all__ = ["export_volume", "import_volume"]
