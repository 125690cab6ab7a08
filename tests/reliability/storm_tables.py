"""A pipeline whose results follow from its keys, with keys that misbehave on request.

Every row of `Value` has three parts and a 40 kB object in the store, so that a checker can tell
from the database and the store alone whether anything was lost, halved or made twice.
"""

import ctypes
import hashlib
import os
import time
from pathlib import Path

import datajoint as dj
import numpy as np

from pipeline.errors import DataError

PIECES = 3
NUMBERS = 10_000  # float32 values of one stored object: 40 kB

schema = dj.Schema()


def activate(prefix="storm"):
    """Bind the tables to the schema `{prefix}_storm`."""
    schema.activate(f"{prefix}_storm")


def digest(value):
    """Return what a key's row must hold."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]


@schema
class Seed(dj.Manual):
    definition = """
    # A number to compute on
    number : int32
    ---
    pause_s : float64     # (s) how long it takes
    mood : varchar(16)    # good, or how it fails
    """


@schema
class Value(dj.Computed):
    definition = """
    # The hash of a number
    -> Seed
    ---
    value : char(16)
    array : <npy@main>
    """

    class Piece(dj.Part):
        definition = """
        -> master
        piece : int16
        ---
        value : char(16)
        """

    def make_fetch(self, key):
        return (Seed & key).fetch1("pause_s", "mood")

    def make_compute(self, key, pause_s, mood):
        time.sleep(pause_s)
        misbehave(mood, key["number"])
        return (np.full(NUMBERS, key["number"], dtype=np.float32),)

    def make_insert(self, key, array):
        self.insert1({**key, "value": digest(key["number"]), "array": array})
        self.Piece.insert(
            {**key, "piece": i, "value": digest((key["number"], i))} for i in range(PIECES)
        )


def misbehave(mood, number):
    """Do what the mood says; a good one does nothing."""
    if mood == "input":  # read what a test has written for this number
        from malformed.cases import read

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
    if mood == "exit":
        os._exit(3)
    if mood == "bad":
        raise DataError("trace has no frames", field="frames", found=0, expected="> 0")
