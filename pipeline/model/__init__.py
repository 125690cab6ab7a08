"""Neural predictive models: encoders, their training, ensembles and evaluation."""

from . import evaluate
from .build import build_encoder
from .combination import combinations, fit_shares
from .config import (
    check_config,
    complete_config,
    default_config,
    ln_config,
    paper_config,
    paper_ln_config,
)
from .encoder import Encoder
from .ensemble import Ensemble
from .evaluate import Evaluation, metrics
from .evaluation.comparison import Comparison, compare
from .files import load_encoder, save_encoder
from .frozen.model import Crops, FrozenModel
from .frozen.receptive_fields import field_centers_px
from .multiscan import JointEncoder, build_joint_encoder, train_jointly
from .training.ensembles import train_ensemble
from .training.methods import TrainingResult, train, trainers
from .training.transfer import joint_config, train_readout, transfer_config, transfer_core

__all__ = [
    "Comparison",
    "Crops",
    "Encoder",
    "Ensemble",
    "Evaluation",
    "FrozenModel",
    "JointEncoder",
    "TrainingResult",
    "build_encoder",
    "build_joint_encoder",
    "check_config",
    "combinations",
    "compare",
    "complete_config",
    "default_config",
    "evaluate",
    "field_centers_px",
    "fit_shares",
    "joint_config",
    "ln_config",
    "load_encoder",
    "metrics",
    "paper_config",
    "paper_ln_config",
    "save_encoder",
    "train",
    "train_ensemble",
    "train_jointly",
    "train_readout",
    "trainers",
    "transfer_config",
    "transfer_core",
]
