"""TIFF files of microscopes: ScanImage's, or plain ones, as scans of movies."""

from .pages import TiffPages, read_pages
from .scan import FieldInfo, Scan, open_scan

__all__ = ["FieldInfo", "Scan", "TiffPages", "open_scan", "read_pages"]
