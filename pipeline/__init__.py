"""Science of inception loops: arrays, files and torch, without any database."""
