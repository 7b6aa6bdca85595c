"""Reader for satellite patches around towers in MODIS files."""

from xcarbon.io.modis.patches import open_modis, read_patches

__all__ = ["open_modis", "read_patches"]
