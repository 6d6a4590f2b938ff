"""The gradient index: training gradients as short rows in a store, from which queries are answered without the model.

`build` makes it in one pass over the training data, a committed block for each shard, so that a rerun goes on where
the last one ended; `open` reads it. ``index.project`` makes rows of queries by the model, ``index.scores`` and
``index.top`` need none, and ``index.append`` adds training examples. How gradients become rows is a setting: `Leading`
(the default), `Factored`, `Sparse` or `LowRank`.

Conventions: rows are ∇ℓ_z of the loss without weights, w_z beside them; scores are those of removal, as
`upweight.Influence` has them; random projections are made from a seed and never stored.
"""

from upweight.index.gradient_index import GradientIndex, build, open
from upweight.index.projections import Factored, Leading, LowRank, Projection, Sparse
from upweight.index.queries import ProjectedQueries

__all__ = [
    "Factored",
    "GradientIndex",
    "Leading",
    "LowRank",
    "ProjectedQueries",
    "Projection",
    "Sparse",
    "build",
    "open",
]
