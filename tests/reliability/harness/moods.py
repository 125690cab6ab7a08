"""Rows that follow from their keys, and keys that misbehave on request: toy and storm tables."""

import ctypes
import errno
import hashlib
import os
import time
from pathlib import Path

import numpy as np

from pipeline.errors import DataError

SEED = """
# A number to compute on
number : int32
---
pause_s : float64     # (s) how long it takes
mood : varchar(16)    # good, or how it fails
"""
VALUE = """
# The hash of a number
-> Seed
---
value : char(16)
array : <npy@main>
"""
PIECE = """
-> master
piece : int16
---
value : char(16)
"""


def digest(value):
    """Return what a key's row must hold."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]


def misbehave(mood, number):
    """Do what the mood says; a good one does nothing."""
    if mood == "input":  # read what a test has written for this number
        from malformed.readers import read

        read(Path(os.environ["INPUTS"]) / str(number))
    if mood == "segfault":
        ctypes.string_at(0)
    if mood == "hang":
        time.sleep(3600)
    if mood == "eat":
        hoard = []
        while True:
            hoard.append(np.ones(2**22))  # the limit comes before the job's time is up
            time.sleep(0.02)
    if mood == "share" and not Path(os.environ["SHARE"]).exists():
        raise OSError(errno.ESTALE, "Stale file handle", os.environ["SHARE"])
    if mood == "exit":
        os._exit(3)
    if mood == "bad":
        raise DataError("trace has no frames", field="frames", found=0, expected="> 0")
