"""From an ensemble to the images that are shown: targets, MEIs, masks, controls, display.

Analyses of the same units stand beside them. Work is cut into batches of target ranks, so that
workers share it; no result depends on how, up to rounding (`pipeline.mei.synthesize`).
"""

from schemas.mei.analysis import Analysis, AnalysisMethod, AnalysisTask, predicted_activation
from schemas.mei.binding import schema
from schemas.mei.controls import Control, ControlMethod, ControlTask, as_json, natural_pool
from schemas.mei.decisions import DecisionSet, TargetDecision, decisions_on
from schemas.mei.display import Display, DisplayMethod, DisplayTask
from schemas.mei.gallery import gallery
from schemas.mei.kinds import as_stimuli
from schemas.mei.masks import Mask, MaskMethod, MaskTask
from schemas.mei.synthesis import MEI, AscentMethod, MEITask, batch_units
from schemas.mei.targets import TargetRule, Targets, TargetTask, target_data

__all__ = [
    "MEI",
    "Analysis",
    "AnalysisMethod",
    "AnalysisTask",
    "AscentMethod",
    "Control",
    "ControlMethod",
    "ControlTask",
    "DecisionSet",
    "Display",
    "DisplayMethod",
    "DisplayTask",
    "MEITask",
    "Mask",
    "MaskMethod",
    "MaskTask",
    "TargetDecision",
    "TargetRule",
    "TargetTask",
    "Targets",
    "as_json",
    "as_stimuli",
    "batch_units",
    "decisions_on",
    "gallery",
    "natural_pool",
    "predicted_activation",
    "schema",
    "target_data",
]
