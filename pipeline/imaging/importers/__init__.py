"""Results of other programs, taken instead of computed: `import_results` sees whose they are."""

from .base import ImportedScan, import_results, importers
from .caiman import caiman
from .extract import extract
from .nwb import nwb
from .suite2p import suite2p

__all__ = ["ImportedScan", "caiman", "extract", "import_results", "importers", "nwb", "suite2p"]
