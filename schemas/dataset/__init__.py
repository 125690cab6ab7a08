"""Images, responses and behavior meet: training sets, their units and their reliability.

The module is called as `training_set`: ``schemas.dataset({"animal_id": 7})``.
"""

import sys
import types
from typing import TYPE_CHECKING, Any

from schemas.dataset.binding import schema
from schemas.dataset.groups import DatasetGroup
from schemas.dataset.names import unit_names
from schemas.dataset.reliability import Reliability, ReliabilityMethod
from schemas.dataset.responses import (
    BehaviorWindow,
    ResponseMethod,
    Responses,
    ResponseTask,
    TrialBehavior,
    TrialBehaviorTask,
)
from schemas.dataset.sets import (
    Dataset,
    DatasetSpec,
    PreparedFile,
    UnitFilter,
    load_dataset,
    training_set,
)

__all__ = [
    "BehaviorWindow",
    "Dataset",
    "DatasetGroup",
    "DatasetSpec",
    "PreparedFile",
    "Reliability",
    "ReliabilityMethod",
    "ResponseMethod",
    "ResponseTask",
    "Responses",
    "TrialBehavior",
    "TrialBehaviorTask",
    "UnitFilter",
    "load_dataset",
    "schema",
    "training_set",
    "unit_names",
]

if TYPE_CHECKING:
    from pipeline.dataset import Dataset as TrainingSet


class _Callable(types.ModuleType):
    def __call__(self, which: Any) -> "TrainingSet":
        return training_set(which)


_Callable.__call__.__doc__ = training_set.__doc__
sys.modules[__name__].__class__ = _Callable
