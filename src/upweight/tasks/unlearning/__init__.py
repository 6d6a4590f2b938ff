"""Make a model forget training examples, or take other labels for them, by moving a part of its parameters."""

from upweight.quantities.generalized.equations import Equations
from upweight.tasks.unlearning.judgement import Judgement
from upweight.tasks.unlearning.report import UnlearningReport, membership_advantage
from upweight.tasks.unlearning.rounds import Rounds
from upweight.tasks.unlearning.unlearn import Unlearned, correct_labels, unlearn

__all__ = [
    "Equations",
    "Judgement",
    "Rounds",
    "Unlearned",
    "UnlearningReport",
    "correct_labels",
    "membership_advantage",
    "unlearn",
]
