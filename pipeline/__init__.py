"""Science of inception loops: arrays, files and torch, without any database."""

__version__ = "0.1.0"
