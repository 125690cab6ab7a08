"""TIFF files of microscopes: ScanImage's, or others, as scans of movies."""

from .opening import open_plain, open_scan
from .pages import TiffPages
from .scan import FieldInfo, Scan
from .walker import read_pages

__all__ = ["FieldInfo", "Scan", "TiffPages", "open_plain", "open_scan", "read_pages"]
