"""Counterfactuals: the models one would have trained on other data.

Near the trained θ, to a gradient tolerance: `fit` finds the optimum; `trust_region` the stationary point below a θ
where the risk isn't convex; `leave_out`, `relabel` and `replace` re-optimise many counterfactual models at once from
there, sharing one factorisation of the curvature as preconditioner; `pbrf` does so for the proximal response that
influence functions of networks predict.

From scratch, for models that are not convex: `train_together` trains many small networks in one vectorised pass
by a `Recipe`; `train_many` runs any user's training function in worker processes and resumes after a kill.

`expansion` says at which model influence is linearised: one that the same training gives at another mean weight.
"""

from upweight.retraining.counterfactual import Retrained, leave_out, relabel, replace
from upweight.retraining.expanded import Expansion, expansion
from upweight.retraining.fit import fit
from upweight.retraining.pbrf import pbrf
from upweight.retraining.recipe import Recipe
from upweight.retraining.subsets import random_halves
from upweight.retraining.together import train_together
from upweight.retraining.trained import Trained
from upweight.retraining.trust_region import Descent, lowest_curvature, trust_region
from upweight.retraining.workers import TrainingFailedError, train_many

__all__ = [
    "Descent",
    "Expansion",
    "Recipe",
    "Retrained",
    "Trained",
    "TrainingFailedError",
    "expansion",
    "fit",
    "leave_out",
    "lowest_curvature",
    "pbrf",
    "random_halves",
    "relabel",
    "replace",
    "train_many",
    "train_together",
    "trust_region",
]
