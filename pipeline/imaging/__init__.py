"""From TIFF files to the deconvolved activity of cells."""

from pipeline.imaging.chain import process

__all__ = ["process"]
