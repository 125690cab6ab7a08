"""A small pipeline whose results follow from its keys, with keys that misbehave on request."""

import os
import time

import datajoint as dj
import numpy as np
from moods import PIECE, SEED, VALUE, digest, misbehave

schema = dj.Schema()


def activate(prefix="toy"):
    schema.activate(f"{prefix}_toy")


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
        return mood, np.full(1000, key["number"], dtype=np.float32)

    def make_insert(self, key, mood, array):
        if mood == "silent":
            return
        self.insert1({**key, "value": digest(key["number"]), "array": array})
        self.Piece.insert(
            {**key, "piece": i, "value": digest((key["number"], i))} for i in range(3)
        )


@schema
class Noop(dj.Computed):
    definition = """
    # Nothing but a row
    -> Seed
    """

    def make(self, key):
        self.insert1(key)


@schema
class Twice(dj.Computed):
    definition = """
    # Follows a part of Value
    -> Value.Piece
    ---
    value : char(16)
    """

    @property
    def key_source(self):
        return Value.Piece & "piece = 0"

    def make(self, key):
        self.insert1({**key, "value": digest((Value.Piece & key).fetch1("value"))})


@schema
class Heavy(dj.Computed):
    definition = """
    # Needs the GPU; says when it had it
    -> Seed
    ---
    began : float64   # (s) monotonic time of the machine
    ended : float64   # (s)
    gpu : varchar(16)
    """
    worker_queue = "gpu"

    @property
    def key_source(self):
        return Seed & "mood='gpu'"

    def make_fetch(self, key):
        return ((Seed & key).fetch1("pause_s"),)

    def make_compute(self, key, pause_s):
        began = time.monotonic()
        time.sleep(pause_s)
        return began, time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES", "")

    def make_insert(self, key, began, ended, gpu):
        self.insert1({**key, "began": began, "ended": ended, "gpu": gpu})
