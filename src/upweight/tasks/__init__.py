"""What people come for: finding label errors, explaining a prediction. Each task says what its numbers mean."""

from upweight.tasks.explain import Explanation, explain
from upweight.tasks.label_errors import LabelErrors, label_errors
from upweight.tasks.predictions import Predictions, predictions

__all__ = ["Explanation", "LabelErrors", "Predictions", "explain", "label_errors", "predictions"]
