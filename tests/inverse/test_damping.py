"""The damping of an inverse: another one of the same matrix, one by the mean eigenvalue, a preconditioner's."""

import pytest

from solvers import SOLVERS, damped, spd
from upweight.curvature import Matrix
from upweight.inverse import CG, Dense, MeanEigenvalue


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
