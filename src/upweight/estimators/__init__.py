"""Fitted scikit-learn estimators as objectives.

Every estimator here minimises, up to a constant factor, C Σ s_i c_{y_i} ℓ(f(x_i), y_i) + ½‖w‖² (or Σ s_i r_i² + α‖w‖²
for least squares), with sample weights s and class weights c. Divided by nC (or 2n) this is the package's
R(θ) = (1/n) Σ w_i ℓ_i + ½ λ‖w‖² with w_i = s_i c_{y_i} and λ = 1/(nC) (or α/n). Intercepts are not penalised, except
by liblinear: there the intercept is the weight of a constant feature ``intercept_scaling``, so λ/intercept_scaling²
is its own penalty. Each module maps one family; `convert` is the door.
"""

from upweight.estimators.convert import from_estimator, prepare

__all__ = ["from_estimator", "prepare"]
