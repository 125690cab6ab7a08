"""The package for the rig: files, manifest, photodiode pattern, and the player."""

from .files import Package, read_package, verify_package, write_package

__all__ = ["Package", "read_package", "verify_package", "write_package"]
