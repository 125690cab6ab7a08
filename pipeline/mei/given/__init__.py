"""What a caller of synthesis brings: models of any kind, groups of units, functions."""

from .code import code_digest, model_digest
from .models import Groups, Known, Mean, as_module, known_of

__all__ = ["Groups", "Known", "Mean", "as_module", "code_digest", "known_of", "model_digest"]
