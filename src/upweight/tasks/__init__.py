"""What people come for: finding label errors, explaining a prediction. Each task says what its numbers mean."""

from upweight.predictions import Predictions, predictions
from upweight.tasks.attacks import Aim, Attack, AttackError, Box, Climb, LeverChoice, Levers, Resources, attack
from upweight.tasks.coefficients import GroupFeatures
from upweight.tasks.compare import ComparedModel, Comparison, compare_models
from upweight.tasks.distance import InfluenceByDistance, by_distance
from upweight.tasks.domain_mismatch import DomainMismatch, domain_mismatch
from upweight.tasks.explain import Explanation, explain
from upweight.tasks.export import export
from upweight.tasks.label_errors import LabelErrors, label_effects, label_errors
from upweight.tasks.label_fixing import LabelFixing, fix_and_retrain
from upweight.tasks.selection import Selection, SelectionComparison, Variety, select
from upweight.tasks.target_errors import TargetErrors, target_errors
from upweight.tasks.token_explanation import ExplainingExample, TokenExplanation
from upweight.tasks.unlearning import Equations, Rounds, Unlearned, UnlearningReport, correct_labels, unlearn

__all__ = [
    "Aim",
    "Attack",
    "AttackError",
    "Box",
    "Climb",
    "ComparedModel",
    "Comparison",
    "DomainMismatch",
    "Equations",
    "ExplainingExample",
    "Explanation",
    "GroupFeatures",
    "InfluenceByDistance",
    "LabelErrors",
    "LabelFixing",
    "LeverChoice",
    "Levers",
    "Predictions",
    "Resources",
    "Rounds",
    "Selection",
    "SelectionComparison",
    "TargetErrors",
    "TokenExplanation",
    "Unlearned",
    "UnlearningReport",
    "Variety",
    "attack",
    "by_distance",
    "compare_models",
    "correct_labels",
    "domain_mismatch",
    "explain",
    "export",
    "fix_and_retrain",
    "label_effects",
    "label_errors",
    "predictions",
    "select",
    "target_errors",
    "unlearn",
]
