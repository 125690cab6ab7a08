"""One door to every kind of movie: `open_source` picks the adapter by what the path is."""

from .base import SourceScan, adapters, open_source
from .nwb import open_nwb
from .sidecar import open_with_sidecar
from .zarrays import open_zarr

__all__ = [
    "SourceScan",
    "adapters",
    "open_nwb",
    "open_source",
    "open_with_sidecar",
    "open_zarr",
]
