"""The definitions: statsmodels' OLSInfluence and GLMInfluence, and R's formulas for what they lack."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import GammaRegressor, LinearRegression, LogisticRegression, PoissonRegressor

import upweight as uw
from regressions import LOSSES, close, data, glm, least_squares


@pytest.mark.parametrize("name", ["longley", "stackloss", "diabetes"])
@pytest.mark.parametrize("weighted", [False, True])
def test_least_squares(name: str, weighted: bool) -> None:
    given = data(name)
    weights = given.weights if weighted else np.ones(len(given.y))
    found = uw.statistics(least_squares(given.X, given.y, given.weights if weighted else None))
    # OLSInfluence is for equal weights; rows times √w are the same regression.
    root = np.sqrt(weights)
    fit = sm.OLS(root * given.y, root[:, None] * given.X).fit()
    wanted = fit.get_influence()
    close(found.hat, wanted.hat_matrix_diag)
    close(found.studentised_internal, wanted.resid_studentized_internal)
    close(found.studentised_external, wanted.resid_studentized_external)
    close(found.cooks_distance, wanted.cooks_distance[0])
    close(found.dffits, wanted.dffits[0])
    close(found.dfbetas, wanted.dfbetas)
    close(found.dispersion, fit.mse_resid)
    # A determinant of cov(θ) keeps 7 digits on Longley's columns (see below), so its factors are compared.
    close(
        found.covariance_ratio,
        (wanted.sigma2_not_obsi / fit.mse_resid) ** given.X.shape[1] / (1 - wanted.hat_matrix_diag),
    )
    close(found.covariance_ratio, wanted.cov_ratio, 1e-8 if name != "longley" else 1e-6)
    close(found.effective_parameters, given.X.shape[1])


def test_longley_in_sixty_digits() -> None:
    """Near-collinear columns: statsmodels' covariance ratio is off by 1.6e-7 here, its DFBETAS are right."""
    given = data("longley")
    n, p = given.X.shape
    with mpmath.workdps(60):

        def fitted(rows: list[int]) -> tuple[Any, Any, Any]:
            columns, targets = mpmath.matrix(given.X[rows].tolist()), mpmath.matrix(given.y[rows].tolist())
            inverse = (columns.T * columns) ** -1
            theta = inverse * (columns.T * targets)
            left = targets - columns * theta
            return theta, (left.T * left)[0] / (len(rows) - p), inverse

        theta, dispersion, inverse = fitted(list(range(n)))
        ratios, dfbetas = [], []
        for i in range(n):
            without, variance, larger = fitted([row for row in range(n) if row != i])
            ratios.append(float((variance / dispersion) ** p * mpmath.det(larger) / mpmath.det(inverse)))
            moves = [(theta[j] - without[j]) / mpmath.sqrt(variance * inverse[j, j]) for j in range(p)]
            dfbetas.append([float(move) for move in moves])
    found = uw.statistics(least_squares(given.X, given.y))
    close(found.covariance_ratio, ratios, 1e-10)
    close(found.dfbetas, dfbetas, 1e-10)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("information", ["observed", "expected"])
def test_generalised_linear_models(name: str, weighted: bool, information: str) -> None:
    fit, given = glm(name, weighted)
    found = uw.statistics(given, information=information)
    wanted = fit.get_influence(observed=information == "observed")
    close(found.hat, wanted.hat_matrix_diag)
    close(found.studentised_internal, wanted.resid_studentized)
    close(found.cooks_distance, wanted.cooks_distance[0])
    close(found.dfbetas, wanted.dfbetas)
    close(found.dffits, wanted.d_linpred_scaled)
    close(found.dffits, wanted.d_fittedvalues_scaled)
    close(found.dispersion, fit.scale)
    if information == "observed":
        close(uw.statistics(given).dfbetas, found.dfbetas)  # the default, as there


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_what_statsmodels_lacks_is_as_r_has_it(name: str, weighted: bool) -> None:
    """rstudent.glm and covratio of R's stats package, written out from statsmodels' deviance residuals."""
    fit, given = glm(name, weighted)
    found = uw.statistics(given, information="expected")
    hat = fit.get_hat_matrix_diag(observed=False)
    pearson, weights = np.asarray(fit.resid_pearson), np.asarray(given.weights)
    deviance = np.asarray(fit.family.resid_dev(fit.model.endog, fit.mu, var_weights=weights))
    n, p = fit.model.exog.shape
    total = (deviance**2).sum()
    sigma = np.sqrt((total - deviance**2 / (1 - hat)) / (n - p - 1))
    student = np.sign(deviance) * np.sqrt(deviance**2 + hat * pearson**2 / (1 - hat))
    close(found.studentised_external, student if name in ("spector", "cpunish") else student / sigma)
    close(found.covariance_ratio, (sigma / np.sqrt(total / (n - p))) ** (2 * p) / (1 - hat))


def test_a_gaussian_family_is_least_squares_with_the_dispersion_of_all_rows() -> None:
    given = data("stackloss")
    found = uw.statistics(least_squares(given.X, given.y, given.weights))
    wanted = sm.GLM(given.y, given.X, var_weights=given.weights).fit().get_influence()
    close(found.hat, wanted.hat_matrix_diag)
    close(found.studentised_internal, wanted.resid_studentized)
    close(found.cooks_distance, wanted.cooks_distance[0])


def test_the_size_of_the_loss_is_no_matter() -> None:
    given = data("stackloss")
    half = uw.statistics(least_squares(given.X, given.y))
    whole = uw.statistics(least_squares(given.X, given.y, loss=uw.losses.SquaredError(1.0)))
    np.testing.assert_allclose(whole.to_pandas(), half.to_pandas(), rtol=1e-12)
    assert whole.dispersion == pytest.approx(half.dispersion)


@pytest.mark.parametrize(
    ("name", "estimator", "family"),
    [
        ("diabetes", LinearRegression(), sm.families.Gaussian()),
        ("spector", LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10), LOSSES["spector"][0]),
        ("cpunish", PoissonRegressor(alpha=0, solver="newton-cholesky", tol=1e-10), LOSSES["cpunish"][0]),
        ("scotland", GammaRegressor(alpha=0, solver="newton-cholesky", tol=1e-10), LOSSES["scotland"][0]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.ConvergenceWarning", "ignore:Line search")
def test_fitted_estimators(name: str, estimator: Any, family: Any) -> None:
    """Weights mean what statsmodels' var_weights do, also where scikit-learn divides by their sum."""
    given = data(name)
    X = given.X[:, :-1]
    scale = np.abs(X).max(0)
    estimator.fit(X / scale, given.y, sample_weight=given.weights)
    found = uw.statistics(estimator, X / scale, given.y, sample_weight=given.weights)
    fit = sm.GLM(given.y, np.c_[X / scale, np.ones(len(X))], family=family, var_weights=given.weights)
    result = fit.fit(tol=1e-14, maxiter=200)
    wanted = result.get_influence()
    close(found.hat, wanted.hat_matrix_diag, 1e-7)
    close(found.studentised_internal, wanted.resid_studentized, 1e-7)
    close(found.cooks_distance, wanted.cooks_distance[0], 1e-7)
    close(found.dispersion, result.scale, 1e-7)
    if name != "diabetes":
        close(found.dfbetas, wanted.dfbetas, 1e-7)
    assert found.names[-1] == "intercept"
    assert found.names[0] == "x0"


@pytest.mark.parametrize("far", [1e4, 1e7, 3e7, 1e9])
def test_a_row_that_holds_all_of_the_sum_of_squares(far: float) -> None:
    """RSS − r²/(1 − h) has no digits left there; statsmodels refits, and so must this."""
    rng = np.random.default_rng(0)
    X, y = np.c_[rng.normal(size=(30, 2)), np.ones(30)], rng.normal(size=30)
    y[3] = far
    found, wanted = uw.statistics(least_squares(X, y)), sm.OLS(y, X).fit().get_influence()
    np.testing.assert_allclose(found.studentised_external, wanted.resid_studentized_external, rtol=1e-6)
    np.testing.assert_allclose(found.dffits, wanted.dffits[0], rtol=1e-6)
    np.testing.assert_allclose(found.dfbetas[3], wanted.dfbetas[3], rtol=1e-6)
    np.testing.assert_allclose(found.covariance_ratio, wanted.cov_ratio, rtol=1e-6)
