"""upweight: which training examples made a model do this, and what would change without them."""

from upweight import curvature, datasets, evaluation, inverse, losses, measurements, plots, report, retraining
from upweight.attribution import Attribution, Quantity
from upweight.influence import Influence
from upweight.objective import Objective

__all__ = [
    "Attribution",
    "Influence",
    "Objective",
    "Quantity",
    "curvature",
    "datasets",
    "evaluation",
    "inverse",
    "losses",
    "measurements",
    "plots",
    "report",
    "retraining",
]
