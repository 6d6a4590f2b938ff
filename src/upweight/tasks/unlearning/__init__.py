"""Make a model forget training examples, or take other labels for them, by moving a part of its parameters."""

from upweight.tasks.unlearning.judgement import Judgement
from upweight.tasks.unlearning.report import UnlearningReport, membership_advantage
from upweight.tasks.unlearning.unlearn import Unlearned, relabel, unlearn

__all__ = ["Judgement", "Unlearned", "UnlearningReport", "membership_advantage", "relabel", "unlearn"]
