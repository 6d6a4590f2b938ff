"""upweight: which training examples made a model do this, and what would change without them."""

from upweight import (
    curvature,
    datasets,
    estimators,
    evaluation,
    inverse,
    losses,
    measurements,
    plots,
    report,
    retraining,
    tasks,
)
from upweight.attribution import Attribution, Quantity
from upweight.estimators import from_estimator
from upweight.influence import Influence, similarity
from upweight.objective import Objective
from upweight.study import Study

__all__ = [
    "Attribution",
    "Influence",
    "Objective",
    "Quantity",
    "Study",
    "curvature",
    "datasets",
    "estimators",
    "evaluation",
    "from_estimator",
    "inverse",
    "losses",
    "measurements",
    "plots",
    "report",
    "retraining",
    "similarity",
    "tasks",
]
