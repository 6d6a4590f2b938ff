"""The damping of an inverse: another one of the same matrix, one by the mean eigenvalue, a preconditioner's."""

import math

import pytest
import torch

from problems import DOUBLE, close
from solvers import SOLVERS, damped, exact, spd
from upweight.curvature import Matrix
from upweight.errors import InputError
from upweight.inverse import CG, LSMR, Dense, LiSSA, MeanEigenvalue


@pytest.mark.parametrize("name", SOLVERS)
def test_another_damping_of_the_same_matrix(name):
    matrix, vectors = spd(), torch.randn(2, 12, dtype=DOUBLE)
    solver = damped(SOLVERS[name], 0.1).fit(Matrix(matrix))
    other = solver.with_damping(0.7)
    assert other.damping == other.solve(vectors).report.damping == 0.7
    close(other.solve(vectors).x, damped(SOLVERS[name], 0.7).fit(Matrix(matrix)).solve(vectors).x)
    close(other.solve(vectors).x, exact(matrix, vectors, 0.7), rtol=1e-8, atol=1e-9)
    close(solver.solve(vectors).x, exact(matrix, vectors, 0.1), rtol=1e-8, atol=1e-9)
    with pytest.raises(InputError, match="damping"):
        solver.with_damping(-0.01)


class Counted(Matrix):
    """A matrix that counts its products."""

    products = 0

    def apply(self, vectors):
        Counted.products += len(vectors)
        return super().apply(vectors)


@pytest.mark.parametrize("name", sorted(set(SOLVERS) - {"cholesky", "eigen", "indefinite", "CG by dense"}))
def test_another_damping_makes_no_product(name):
    solver = damped(SOLVERS[name], 0.1).fit(Counted(spd()))
    before = Counted.products
    solver.with_damping(0.7)
    assert Counted.products == before


def test_a_multiple_of_the_mean_eigenvalue_becomes_an_absolute_damping():
    matrix = spd()
    solver = Dense(damping=MeanEigenvalue(0.1)).fit(Matrix(matrix))
    assert solver.damping == pytest.approx(0.1 * float(matrix.trace()) / 12)


def test_the_mean_eigenvalue_of_a_matrix_is_that_of_its_seed_whoever_asked_before():
    operator = Counted(spd(60))
    solver = CG(damping=MeanEigenvalue(0.1)).fit(operator)
    assert solver.with_damping(MeanEigenvalue(0.1, seed=1)).damping != solver.damping
    assert solver.with_damping(MeanEigenvalue(0.2)).damping == 2 * solver.damping


def test_a_preconditioner_takes_the_damping_of_conjugate_gradients_unless_it_has_its_own():
    operator = Matrix(spd())
    taken, own = (CG(damping=0.3, preconditioner=Dense(damping=d)).fit(operator) for d in (0.0, 0.4))
    assert taken.preconditioner.damping == 0.3
    assert own.preconditioner.damping == 0.4
    assert taken.with_damping(0.7).preconditioner.damping == 0.7
    assert own.with_damping(0.7).preconditioner.damping == pytest.approx(0.8)
    more = CG(damping=0.3, preconditioner=Dense(damping=0.1)).fit(operator).with_damping(0.05)
    assert more.preconditioner.damping == 0.05


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("damping", [-1e-3, math.nan, math.inf, True, "auto!"])
@pytest.mark.parametrize("kind", [Dense, CG, LSMR, LiSSA])
def test_damping_must_be_a_finite_number_from_zero_on(kind, damping):
    with pytest.raises(InputError, match=r"damping: give a finite number ≥ 0.* inverse.MeanEigenvalue"):
        kind(damping=damping).fit(Matrix(spd()))
