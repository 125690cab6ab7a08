"""The stages of the pipeline, from a recording to the verdict: the one list of them.

A stage has one name in every layer: a folder of `pipeline`, a module of `schemas`, a database
schema `<prefix>_<stage>`. Code and foreign keys of a stage lead to stages before it, never after.
"""

STAGES = (
    "experiment",
    "stimulus",
    "imaging",
    "behavior",
    "dataset",
    "model",
    "mei",
    "closed_loop",
)
