"""Influence measures of linear, ridge and generalised linear models: the statistics of regression diagnostics.

Conventions of this room:

- One row is left out, the others keep their weights, and a penalty stays what it is (scikit-learn's α and C).
- Weights say how precise a row is (statsmodels' ``var_weights``, R's ``lm(weights=)``), not how often it stands there;
  a row of weight 0 is no data: it moves nothing and counts in no degrees of freedom.
- Arrays are NumPy's, in float64 whatever the model's precision, in the order of the training data.
- What isn't defined is NaN in its own row or column, and one warning names it.

The room isn't called ``statistics``: a module of that name would take the place of `upweight.statistics`.
"""

from upweight.diagnostics.door import statistics
from upweight.diagnostics.result import Statistics

__all__ = ["Statistics", "statistics"]
