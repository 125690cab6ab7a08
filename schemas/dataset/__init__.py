"""Images, responses and behavior meet: training sets, their units and their reliability."""

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
from schemas.dataset.sets import Dataset, DatasetSpec, PreparedFile, UnitFilter, load_dataset

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
    "unit_names",
]
