"""Which code computes: the commit baked into an image, a checkout's, or the release."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from pipeline import __version__


@functools.cache
def code_version() -> str:
    """Return INCEPTION_COMMIT, else the checkout's commit, else the release's number."""
    baked = os.environ.get("INCEPTION_COMMIT", "")
    if baked:
        return baked[:64]
    root = Path(__file__).resolve().parents[1]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            done = None  # no git here: the release's number will do
        if done is not None and done.returncode == 0:
            return done.stdout.strip()[:64]
    return __version__
