"""The quantities: what would change if training examples were upweighted, removed, relabelled or perturbed."""

from upweight.influence import similarity
from upweight.influence.influence import Influence

__all__ = ["Influence", "similarity"]
