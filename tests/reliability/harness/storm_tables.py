"""A pipeline whose results follow from its keys, with keys that misbehave on request.

Every row of `Value` has three parts and a 40 kB object in the store, so that a checker can tell
from the database and the store alone whether anything was lost, halved or made twice.
"""

import time

import datajoint as dj
import numpy as np
from moods import PIECE, SEED, VALUE, digest, misbehave

PIECES = 3
NUMBERS = 10_000  # float32 values of one stored object: 40 kB

schema = dj.Schema()


def activate(prefix="storm"):
    """Bind the tables to the schema `{prefix}_storm`."""
    schema.activate(f"{prefix}_storm")


@schema
class Seed(dj.Manual):
    definition = SEED


@schema
class Value(dj.Computed):
    definition = VALUE

    class Piece(dj.Part):
        definition = PIECE

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
