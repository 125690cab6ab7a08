"""Encoders that predict every unit's response, their ensembles and how good they are."""

from schemas.model.binding import schema
from schemas.model.contrast import Contrast, ContrastTask
from schemas.model.ensembles import (
    CombinationMethod,
    EnsembleSpec,
    MemberShares,
    load_ensemble,
    predict,
)
from schemas.model.evaluation import MEASURES, Evaluation
from schemas.model.search import Search, SearchMethod, SearchTrial, Shortlist
from schemas.model.tasks import CoreSource, JointTask, ModelConfig, TrainingTask
from schemas.model.training import JointModel, TrainedModel

__all__ = [
    "MEASURES",
    "CombinationMethod",
    "Contrast",
    "ContrastTask",
    "CoreSource",
    "EnsembleSpec",
    "Evaluation",
    "JointModel",
    "JointTask",
    "MemberShares",
    "ModelConfig",
    "Search",
    "SearchMethod",
    "SearchTrial",
    "Shortlist",
    "TrainedModel",
    "TrainingTask",
    "load_ensemble",
    "predict",
    "schema",
]
