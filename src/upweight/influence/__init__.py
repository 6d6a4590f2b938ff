"""The quantities: what would change if training examples were upweighted, removed, relabelled or perturbed.

Beside influence stand the attributions that need no curvature of the objective: `TracIn`, `TRAK` and `similarity`.
"""

from upweight.influence import similarity
from upweight.influence.changes import Relabelling, Removal, Substitution
from upweight.influence.ensemble import Ensemble
from upweight.influence.influence import Influence
from upweight.influence.tracin import TracIn
from upweight.influence.trak import TRAK

__all__ = [
    "TRAK",
    "Ensemble",
    "Influence",
    "Relabelling",
    "Removal",
    "Substitution",
    "TracIn",
    "similarity",
]
