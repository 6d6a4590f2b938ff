"""What people come for: finding label errors, explaining a prediction. Each task says what its numbers mean."""

from upweight.tasks.domain_mismatch import DomainMismatch, domain_mismatch
from upweight.tasks.explain import Explanation, explain
from upweight.tasks.label_errors import LabelErrors, label_errors
from upweight.tasks.label_fixing import LabelFixing, fix_and_retrain
from upweight.tasks.predictions import Predictions, predictions

__all__ = [
    "DomainMismatch",
    "Explanation",
    "LabelErrors",
    "LabelFixing",
    "Predictions",
    "domain_mismatch",
    "explain",
    "fix_and_retrain",
    "label_errors",
    "predictions",
]
