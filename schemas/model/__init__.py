"""Encoders that predict every unit's response, their ensembles and how good they are."""

from schemas.model.binding import schema
from schemas.model.ensembles import EnsembleSpec, load_ensemble
from schemas.model.evaluation import MEASURES, Evaluation
from schemas.model.training import ModelConfig, TrainedModel, TrainingTask

__all__ = [
    "MEASURES",
    "EnsembleSpec",
    "Evaluation",
    "ModelConfig",
    "TrainedModel",
    "TrainingTask",
    "load_ensemble",
    "schema",
]
