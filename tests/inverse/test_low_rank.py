"""Nyström and Arnoldi: exact at full rank, what their formulas say below it, and good preconditioners."""

import math

import numpy as np
import pytest
import torch

import upweight as uw
from problems import DOUBLE, close, convex, mlp
from upweight.curvature import GGN, EmpiricalFisher, Hessian, Matrix
from upweight.errors import InputError, NegativeCurvatureError, NegativeCurvatureWarning
from upweight.inverse import CG, Arnoldi, Dense, MeanEigenvalue, Nystrom, precondition

COMPLEMENTS = ["smallest", "damp", "drop"]
KINDS = [Nystrom, Arnoldi]


class Counted(Matrix):
    """A matrix that counts its products."""

    products = 0

    def apply(self, vectors):
        Counted.products += len(vectors)
        return super().apply(vectors)


def eye(p):
    return torch.eye(p, dtype=DOUBLE)


def with_spectrum(values):
    q, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=DOUBLE))
    matrix = q @ torch.diag(torch.as_tensor(values, dtype=DOUBLE)) @ q.T
    return (matrix + matrix.T) / 2


def decaying(p=60, rate=0.7):
    """Eigenvalues 1, .7, .49 … as curvature has them."""
    return with_spectrum(rate ** torch.arange(p, dtype=DOUBLE))


def applied(solver, p):
    """The approximate inverse as a matrix."""
    return solver.solve(eye(p)).x


def spectral(values, vectors, damping, complement):
    """Its formula, from eigenvectors as columns."""
    off = 0.0 if complement == "drop" else 1 / (damping if complement == "damp" else values.min() + damping)
    rest = eye(len(vectors)) - vectors @ vectors.T
    return vectors @ torch.diag(1 / (values + damping)) @ vectors.T + off * rest


@pytest.mark.parametrize("complement", COMPLEMENTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("l2", [0.02, {"0.*": 0.3}], ids=["one l2", "l2 by parameter"])
def test_full_rank_is_exact(kind, complement, l2):
    problem = mlp()
    objective = problem.objective(l2=l2)
    matrix = problem.ggn() - 0.02 * eye(objective.p) + torch.diag(objective.l2)
    solver = kind(objective.p, damping=0.05, complement=complement).fit(objective)
    vectors = problem.query_gradients()
    solution = solver.solve(vectors)
    close(solution.x, torch.linalg.solve(matrix + 0.05 * eye(objective.p), vectors.T).T)
    assert float(solution.report.residuals.max()) < 1e-10
    dense = Dense(GGN(), damping=0.4).fit(objective).solve(vectors).x
    close(solver.with_damping(0.4).solve(vectors).x, dense)


@pytest.mark.parametrize("kind", KINDS)
def test_influence_at_full_rank_is_that_of_the_dense_inverse(kind, convex):
    objective = convex.objective()
    scores, truth = (
        uw.Influence(objective, inverse).attribute(convex.queries).scores for inverse in (kind(objective.p), Dense())
    )
    close(scores, truth)


@pytest.mark.parametrize("l2", [0.0, {"weight": 0.3}], ids=["none", "of some"])
@pytest.mark.parametrize("complement", COMPLEMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_full_rank_needs_neither_penalty_nor_damping(kind, complement, l2):
    problem = convex("ridge")
    objective = problem.objective(l2=l2)
    found = kind(objective.p, damping=0.0, complement=complement).fit(objective)
    truth = Dense(GGN()).fit(objective).solve(problem.query_gradients()).x
    close(found.solve(problem.query_gradients()).x, truth)


@pytest.mark.parametrize("kind", KINDS)
def test_a_singular_matrix_known_whole_is_refused_or_inverted_where_it_is_not(kind):
    values = torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0], dtype=DOUBLE)
    matrix, vectors = with_spectrum(values), torch.randn(4, 5, dtype=DOUBLE)
    with pytest.raises(InputError, match=r"damping: 0 leaves 2 of 5 directions singular.*complement='drop'"):
        kind(5, damping=0.0, complement="damp").fit(Matrix(matrix))
    dropped = kind(5, damping=0.0, complement="drop").fit(Matrix(matrix))
    close(dropped.solve(vectors).x, vectors @ torch.linalg.pinv(matrix, hermitian=True), atol=1e-8)


@pytest.mark.parametrize("complement", COMPLEMENTS)
def test_nystrom_is_the_inverse_of_its_approximation(complement):
    matrix, rank = decaying(), 9
    solver = Nystrom(rank, damping=0.01, complement=complement, seed=3).fit(Matrix(matrix))
    test = torch.randn(rank, 60, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    approximation = matrix @ test.T @ torch.linalg.inv(test @ matrix @ test.T) @ test @ matrix
    values, vectors = torch.linalg.eigh(approximation)
    close(applied(solver, 60), spectral(values[-rank:], vectors[:, -rank:], 0.01, complement), atol=1e-8)
    assert torch.linalg.eigvalsh(matrix - approximation)[0] > -1e-12  # it never overstates
    assert (solver.pairs.values <= torch.linalg.eigvalsh(matrix).flip(0)[:rank] + 1e-12).all()


@pytest.mark.parametrize("kind", [Hessian(), GGN()])
@pytest.mark.parametrize("inverse", KINDS)
def test_the_penalty_takes_no_rank(inverse, kind):
    problem = convex("ridge")  # 3 features and a bias: the curvature without the penalty has rank 4 of 4
    wide = problem.objective(data=(problem.x[:2], problem.y[:2]), l2={"weight": 0.1, "bias": 0.7})  # and now 2 of 4
    vectors = problem.query_gradients()
    solution = inverse(2, kind, complement="damp").fit(wide).solve(vectors)
    close(solution.x, Dense(kind).fit(wide).solve(vectors).x)


@pytest.mark.parametrize("inverse", KINDS)
def test_other_curvatures_keep_their_own_penalty_or_have_none(inverse):
    problem = mlp()
    objective, vectors = problem.objective(), problem.query_gradients()
    share = GGN().of(objective).share(range(10))  # without the penalty
    for operator in (EmpiricalFisher().of(objective), share):
        x = inverse(31, damping=0.1).fit(operator).solve(vectors).x
        close(x, torch.linalg.solve(operator.dense() + 0.1 * eye(31), vectors.T).T)


@pytest.mark.parametrize("complement", COMPLEMENTS)
def test_arnoldi_is_the_projection_on_the_dominant_eigenvectors(complement):
    matrix, rank = decaying(), 6
    solver = Arnoldi(rank, damping=0.01, complement=complement, iterations=30).fit(Matrix(matrix))
    values, vectors = torch.linalg.eigh(matrix)
    close(applied(solver, 60), spectral(values[-rank:], vectors[:, -rank:], 0.01, complement), atol=1e-8)


@pytest.mark.parametrize("values", [[2.0] * 12, [2.0] * 11 + [5.0], [0.0] * 12, [0.0] * 9 + [1.0, 2.0, 2.0]])
@pytest.mark.parametrize("complement", COMPLEMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_equal_and_vanishing_eigenvalues_are_no_trouble(kind, complement, values):
    matrix, vectors = with_spectrum(values), torch.randn(3, 12, dtype=DOUBLE)
    x = kind(12, damping=0.1, complement=complement).fit(Matrix(matrix)).solve(vectors).x
    close(x, torch.linalg.solve(matrix + 0.1 * eye(12), vectors.T).T)


@pytest.mark.parametrize("complement", COMPLEMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_approximate_inverse_is_symmetric_and_as_a_preconditioner_positive(kind, complement):
    problem = mlp()
    solver = kind(7, damping=0.01, complement=complement).fit(problem.objective(l2={"0.*": 0.3}))
    inverse, p = applied(solver, 31), eye(31)
    close(inverse, inverse.T)
    assert torch.linalg.eigvalsh(inverse)[0] > (-1e-10 if complement == "drop" else 0.1)
    assert torch.linalg.eigvalsh(precondition(solver, p))[0] > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_residual_is_measured_with_the_matrix_and_promises_nothing(kind):
    matrix, vectors = decaying(), torch.randn(3, 60, dtype=DOUBLE)
    solution = kind(5, damping=0.01).fit(Matrix(matrix)).solve(vectors)
    residuals = (solution.x @ matrix + 0.01 * solution.x - vectors).norm(dim=1) / vectors.norm(dim=1)
    assert (residuals > 0.05).all()
    close(solution.report.residuals, residuals)
    assert math.isnan(solution.report.tolerance)
    assert solution.report.converged
    assert "of rank 5 of the matrix, the rest as 'smallest'" in str(solution.report)


@pytest.mark.parametrize(("kind", "products"), [(Nystrom, 5), (Arnoldi, 10)])
def test_products_are_made_by_the_fit_and_for_residuals_alone(kind, products):
    Counted.products = 0
    operator, vectors = Counted(decaying()), torch.randn(3, 60, dtype=DOUBLE)
    solver = kind(5, damping=0.01).fit(operator)
    assert Counted.products == products
    other = solver.with_damping(0.2)
    precondition(other, vectors)
    assert Counted.products == products
    other.solve(vectors)
    assert Counted.products == products + 3
    unmeasured = kind(5, damping=0.2, residuals=False).fit(Matrix(operator.matrix)).solve(vectors)
    assert unmeasured.report.residuals.isnan().all()
    assert "residual not measured" in str(unmeasured.report)
    close(unmeasured.x, other.solve(vectors).x)


@pytest.mark.parametrize("complement", COMPLEMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_another_damping_is_that_of_a_new_fit(kind, complement):
    operator, vectors = Matrix(decaying()), torch.randn(3, 60, dtype=DOUBLE)
    fitted = kind(5, damping=0.01, complement=complement).fit(operator)
    again = kind(5, damping=0.3, complement=complement).fit(operator)
    assert torch.equal(fitted.with_damping(0.3).solve(vectors).x, again.solve(vectors).x)
    assert fitted.with_damping(0.3).damping == 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind):
    vectors, operator = torch.randn(3, 60, dtype=DOUBLE), Matrix(decaying())
    one, same, other = (kind(5, damping=0.1, seed=seed).fit(operator).solve(vectors).x for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


INDEFINITE = [*np.linspace(0.5, 2, 6), -1.0, -0.3]


def test_arnoldi_leaves_negative_eigenvalues_out_and_says_how_many():
    matrix = with_spectrum(INDEFINITE)
    values, vectors = torch.linalg.eigh(matrix)
    expected = spectral(values[2:], vectors[:, 2:], 0.4, "drop")
    for damping in (0.4, 1.5):  # whether damping outweighs them or not
        with pytest.warns(NegativeCurvatureWarning, match=r"2 of 8 .* down to -1.00e\+00 beside .* 2.00.*14\.8%"):
            solver = Arnoldi(8, damping=damping, complement="drop").fit(Matrix(matrix))
    with pytest.warns(NegativeCurvatureWarning):
        close(applied(solver.with_damping(0.4), 8), expected)


def test_negative_eigenvalues_are_known_where_the_penalty_differs_by_parameter():
    problem = mlp()
    objective = problem.objective(l2={"0.*": 0.3}).at(problem.theta + 0.5)  # far from any minimum
    matrix = Hessian().of(objective).dense()
    assert torch.linalg.eigvalsh(matrix)[0] < -0.01
    with pytest.warns(NegativeCurvatureWarning):
        solver = Arnoldi(31, Hessian(), damping=1.0).fit(objective)
    scaled = solver.damped.vectors * solver.damped.scaling
    assert (torch.einsum("rp,pq,rq->r", scaled, matrix, scaled) > -1e-10).all()
    assert len(scaled) < 31


def test_arnoldi_refuses_a_matrix_without_positive_eigenvalues():
    with pytest.raises(NegativeCurvatureError, match="no eigenvalue found is positive"):
        Arnoldi(8, damping=0.1).fit(Matrix(with_spectrum([-1.0] * 8)))


def test_nystrom_refuses_negative_curvature_with_its_figure():
    with pytest.raises(NegativeCurvatureError, match=r"dᵀHd/dᵀd = -\d.*not positive semi-definite.*GGN.*Arnoldi"):
        Nystrom(8, damping=0.1).fit(Matrix(with_spectrum(INDEFINITE)))


SINGULAR = [*((Nystrom, c) for c in ("smallest", "damp")), *((Arnoldi, c) for c in ("smallest", "damp"))]


@pytest.mark.parametrize(("kind", "complement"), SINGULAR)
def test_no_damping_is_refused_where_the_objective_has_no_penalty_either(kind, complement):
    message = r"damping: 0 leaves a matrix of rank 5 singular .* damping > 0 .* l2 > 0"
    for target in (Matrix(decaying()), convex("softmax").objective(l2={"weight": 0.1})):
        with pytest.raises(InputError, match=message):
            kind(5, complement=complement).fit(target)
        solver = kind(5, damping=0.1, complement=complement).fit(target)
        with pytest.raises(InputError, match=message):
            solver.with_damping(0.0)
    kind(5, complement=complement).fit(convex("softmax").objective(l2=0.1))


def test_a_projection_needs_no_damping():
    matrix = decaying()
    values, vectors = torch.linalg.eigh(matrix)
    solver = Arnoldi(5, complement="drop", iterations=30).fit(Matrix(matrix))
    close(applied(solver, 60), spectral(values[-5:], vectors[:, -5:], 0.0, "drop"), atol=1e-8)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 0), ("rank", 61), ("rank", 2.5), ("rank", True), ("complement", "keep"), ("damping", -1.0)],
)
def test_settings_out_of_range_are_refused_by_name(kind, name, value):
    with pytest.raises(InputError, match=f"^{name}: "):
        kind(**{"rank": 5, "damping": 0.1, name: value}).fit(Matrix(decaying()))


@pytest.mark.usefixtures("unchecked")
def test_fewer_iterations_than_eigenpairs_are_refused():
    with pytest.raises(InputError, match=r"^iterations: give a whole number of at least 5; got 4"):
        Arnoldi(5, damping=0.1, iterations=4).fit(Matrix(decaying()))


@pytest.mark.parametrize("complement", COMPLEMENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_as_preconditioners_they_save_passes(kind, complement):
    values = torch.cat([torch.logspace(2, 0, 20), torch.logspace(-3, -6, 280)]).double()
    matrix, vectors = with_spectrum(values), torch.randn(1, 300, dtype=DOUBLE)
    plain = CG(damping=1e-3).fit(Matrix(matrix)).solve(vectors)
    Counted.products = 0
    inverse = CG(damping=1e-3, preconditioner=kind(30, complement=complement)).fit(Counted(matrix))
    assert inverse.preconditioner.damping == 1e-3
    before = Counted.products
    helped = inverse.solve(vectors)
    assert helped.report.iterations <= plain.report.iterations / 2
    assert Counted.products - before <= helped.report.iterations + 3  # the preconditioner costs none
    close(helped.x, plain.x, rtol=1e-6, atol=1e-5)
    sooner, later = inverse.with_damping(1e-2).solve(vectors), CG(damping=1e-2).fit(Matrix(matrix)).solve(vectors)
    assert sooner.report.iterations <= later.report.iterations / 2
    close(sooner.x, later.x, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_preconditioner_in_single_precision_serves_double(kind):
    matrix, vectors = decaying(), torch.randn(4, 60, dtype=DOUBLE)
    preconditioner = kind(15, damping=1e-3).fit(Matrix(matrix.float()))
    solution = CG(damping=1e-3, preconditioner=preconditioner).fit(Matrix(matrix)).solve(vectors)
    assert solution.report.converged
    close(solution.x, torch.linalg.solve(matrix + 1e-3 * eye(60), vectors.T).T, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("kind", KINDS)
def test_other_precisions_agree_as_far_as_they_can(kind, dtype, rtol):
    matrix, vectors = decaying(), torch.randn(3, 60, dtype=DOUBLE)
    solution = kind(60, damping=0.1).fit(Matrix(matrix.to(dtype))).solve(vectors.to(dtype))
    assert solution.x.dtype == dtype
    truth = torch.linalg.solve(matrix + 0.1 * eye(60), vectors.T).T
    assert float((solution.x.double() - truth).norm() / truth.norm()) < rtol


@pytest.mark.parametrize("kind", KINDS)
def test_a_multiple_of_the_mean_eigenvalue_becomes_an_absolute_damping(kind):
    problem = mlp()
    solver = kind(5, damping=MeanEigenvalue(0.1)).fit(problem.objective())
    assert solver.damping == pytest.approx(0.1 * float(problem.ggn().trace()) / 31)
