"""Parts of which an ascent is composed: one registry a role, one function a part."""

from .constraints import constraints
from .finishes import finishes
from .gradients import gradients
from .initials import initials
from .regularisers import regularisers
from .scene import Scene
from .stoppers import stoppers
from .transforms import transforms

__all__ = [
    "Scene",
    "constraints",
    "finishes",
    "gradients",
    "initials",
    "regularisers",
    "stoppers",
    "transforms",
]
