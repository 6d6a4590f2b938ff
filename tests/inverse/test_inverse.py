"""Every inverse solves (H + δI) x = v for the δ it was given, says how well, and refuses what it can't solve."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg, minres
from torch import nn

import upweight as uw
from problems import DOUBLE, close, convex, mlp
from upweight.curvature import GGN, Hessian, Matrix
from upweight.errors import DivergedError, InputError, NegativeCurvatureError, NotConvergedWarning
from upweight.inverse import CG, LSMR, Dense, LiSSA, MeanEigenvalue
from upweight.inverse.lissa import largest_eigenvalue


def spd(p=12, smallest=0.1):
    q, _ = torch.linalg.qr(torch.randn(p, p, dtype=DOUBLE))
    return q @ torch.diag(torch.linspace(smallest, 2.0, p, dtype=DOUBLE)) @ q.T


def exact(matrix, vectors, damping=0.0):
    return torch.linalg.solve(matrix + damping * torch.eye(len(matrix), dtype=DOUBLE), vectors.T).T


NEUMANN = LiSSA(batch_size=None, repeats=1, depth=500)
SOLVERS = {
    "cholesky": Dense(),
    "eigen": Dense(method="eigen"),
    "indefinite": Dense(indefinite=True),
    "CG": CG(),
    "CG by dense": CG(preconditioner=Dense()),
    "CG by CG": CG(preconditioner=CG(tolerance=1e-12)),
    "CG by LSMR": CG(preconditioner=LSMR(tolerance=1e-12)),
    "CG by LiSSA": CG(preconditioner=LiSSA(batch_size=None, repeats=1, depth=20)),
    "LSMR": LSMR(tolerance=1e-13),
    "LiSSA": NEUMANN,
}


def damped(inverse, damping, kind=None):
    changes = {"damping": damping} | ({} if kind is None else {"curvature": kind})
    return type(inverse)(**{**{name: getattr(inverse, name) for name in inverse.__dataclass_fields__}, **changes})


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_inverse_solves_for_its_damping(name, damping):
    matrix, vectors = spd(), torch.randn(4, 12, dtype=DOUBLE)
    solver = damped(SOLVERS[name], damping).fit(Matrix(matrix))
    solution = solver.solve(vectors)
    close(solution.x, exact(matrix, vectors, damping), rtol=1e-8, atol=1e-9)
    assert solver.damping == solution.report.damping == damping
    residuals = (solution.x @ matrix + damping * solution.x - vectors).norm(dim=1) / vectors.norm(dim=1)
    close(solution.report.residuals, residuals, atol=1e-12)


@pytest.mark.parametrize("kind", [Hessian(), GGN()])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_inverse_solves_for_the_curvature_of_an_objective(name, kind):
    problem = mlp()
    matrix = {"Hessian": problem.hessian, "GGN": problem.ggn}[kind.name]()
    vectors = problem.query_gradients()
    solution = damped(SOLVERS[name], 0.05, kind).fit(problem.objective()).solve(vectors)
    close(solution.x, exact(matrix, vectors, 0.05), rtol=1e-7, atol=1e-8)
    assert kind.name in str(solution.report)


@pytest.mark.parametrize("reference", [cg, minres])
def test_iterative_inverses_agree_with_those_of_scipy(reference):
    matrix, vectors = spd(), torch.randn(2, 12, dtype=DOUBLE)
    for x, v in zip(CG().fit(Matrix(matrix)).solve(vectors).x, vectors, strict=True):
        theirs, _ = reference(matrix.numpy(), v.numpy(), rtol=1e-13)
        close(x, theirs, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", SOLVERS)
def test_three_equal_calls_give_three_equal_answers(name):
    matrix, vectors = spd(), torch.randn(3, 12, dtype=DOUBLE)
    kept_matrix, kept_vectors = matrix.clone(), vectors.clone()
    solver = damped(SOLVERS[name], 0.2).fit(Matrix(matrix))
    first, second, third = (solver.solve(vectors).x for _ in range(3))
    assert torch.equal(first, second)
    assert torch.equal(first, third)
    assert torch.equal(matrix, kept_matrix)  # damping is not added in place
    assert torch.equal(vectors, kept_vectors)


@pytest.mark.parametrize("name", SOLVERS)
def test_zero_vectors_have_zero_solutions(name):
    vectors = torch.randn(3, 12, dtype=DOUBLE)
    vectors[1] = 0
    x = SOLVERS[name].fit(Matrix(spd())).solve(vectors).x
    assert torch.isfinite(x).all()
    close(x[1], torch.zeros(12))
    assert x[0].norm() > 0


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-9])
def test_conjugate_gradients_honour_their_tolerance(tolerance):
    matrix, vectors = spd(60, 1e-3), torch.randn(3, 60, dtype=DOUBLE)
    solution = CG(tolerance=tolerance).fit(Matrix(matrix)).solve(vectors)
    residuals = (solution.x @ matrix - vectors).norm(dim=1) / vectors.norm(dim=1)
    assert (residuals <= 1.01 * tolerance).all()
    assert solution.report.converged


def test_a_preconditioner_saves_iterations():
    matrix, vectors = spd(60, 1e-3), torch.randn(2, 60, dtype=DOUBLE)
    plain = CG().fit(Matrix(matrix)).solve(vectors)
    helped = CG(preconditioner=Dense().fit(Matrix(matrix + 1e-4 * torch.eye(60)))).fit(Matrix(matrix)).solve(vectors)
    assert helped.report.iterations < plain.report.iterations / 2
    close(helped.x, plain.x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("inverse", [CG(max_iterations=3), LSMR(max_iterations=3)], ids=["CG", "LSMR"])
def test_what_did_not_converge_says_so_with_its_residual(inverse):
    problem = convex("softmax")
    influence = uw.Influence(problem.objective(), inverse)
    with pytest.warns(NotConvergedWarning, match=r"relative residual ≤ \d.*in 3 iterations.*not reached"):
        attribution = influence.attribute((problem.query_x[:1], problem.query_y[:1]))
    assert "not reached" in str(attribution.report)


def test_conjugate_gradients_refuse_negative_curvature_with_its_figure():
    matrix = Matrix(torch.diag(torch.tensor([2.0, 1.0, -0.5], dtype=DOUBLE)))
    vectors = torch.ones(1, 3, dtype=DOUBLE)
    with pytest.raises(NegativeCurvatureError, match=r"= -\d.*≤ 0.*damping > .*LSMR"):
        CG().fit(matrix).solve(vectors)
    close(CG(damping=0.6).fit(matrix).solve(vectors).x, exact(matrix.matrix, vectors, 0.6))


@pytest.mark.parametrize("method", ["cholesky", "eigen"])
def test_dense_refuses_damping_below_the_smallest_eigenvalue_and_names_it(method):
    matrix = Matrix(torch.diag(torch.tensor([2.0, 1.0, -0.5], dtype=DOUBLE)))
    for damping in (0.0, 0.4):
        with pytest.raises(NegativeCurvatureError, match=r"smallest eigenvalue is -5.000e-01.*damping > 0.5"):
            Dense(method=method, damping=damping).fit(matrix)
    Dense(method=method, damping=0.51).fit(matrix)


@pytest.mark.parametrize("method", ["cholesky", "eigen"])
def test_dense_refuses_a_matrix_that_is_singular_to_rounding(method):
    rows = torch.randn(3, 8, dtype=DOUBLE)
    with pytest.raises(NegativeCurvatureError, match=r"singular to rounding.* 5 of 8 directions.*larger damping"):
        Dense(method=method).fit(Matrix(rows.T @ rows))


@pytest.mark.parametrize("inverse", [LSMR(tolerance=1e-13), Dense(indefinite=True)], ids=["LSMR", "eigen"])
def test_indefinite_matrices_are_solved_where_they_are_meant_to_be(inverse):
    q, _ = torch.linalg.qr(torch.randn(8, 8, dtype=DOUBLE))
    matrix = q @ torch.diag(torch.tensor([-2.0, -1, -0.5, 0.3, 0.7, 1, 2, 3], dtype=DOUBLE)) @ q.T
    vectors = torch.randn(3, 8, dtype=DOUBLE)
    close(inverse.fit(Matrix(matrix)).solve(vectors).x, exact(matrix, vectors), rtol=1e-7, atol=1e-8)


def test_lsmr_gives_the_shortest_least_squares_solution_of_a_singular_matrix():
    rows = torch.randn(4, 9, dtype=DOUBLE)
    matrix, vectors = rows.T @ rows, torch.randn(3, 9, dtype=DOUBLE)
    x = LSMR(tolerance=1e-14).fit(Matrix(matrix)).solve(vectors).x
    expected = np.linalg.lstsq(matrix.numpy(), vectors.numpy().T, rcond=1e-10)[0].T
    close(x, expected, rtol=1e-7, atol=1e-8)


def neumann(matrix, vectors, scale, depth):
    values, q = torch.linalg.eigh(matrix)
    return vectors @ q @ torch.diag((1 - (1 - values / scale) ** (depth + 1)) / values) @ q.T


@pytest.mark.parametrize("depth", [1, 7, 60])
@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_lissa_is_the_neumann_series(depth, damping):
    matrix, vectors = spd(), torch.randn(3, 12, dtype=DOUBLE)
    inverse = LiSSA(batch_size=None, repeats=2, scale=3.0, depth=depth, damping=damping)
    expected = neumann(matrix + damping * torch.eye(12), vectors, 3.0, depth)
    close(inverse.fit(Matrix(matrix)).solve(vectors).x, expected)


@pytest.mark.parametrize("damping", [0.0, 0.5])
def test_the_damping_of_lissa_is_not_multiplied_by_its_scale(damping):
    matrix, vectors = spd(), torch.randn(3, 12, dtype=DOUBLE)
    answers = [
        LiSSA(batch_size=None, repeats=1, scale=scale, depth=4000, damping=damping).fit(Matrix(matrix)).solve(vectors).x
        for scale in (2.0, 10.0)
    ]
    for answer in answers:
        close(answer, exact(matrix, vectors, damping), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("scale", "converges"), [(0.95, False), (1.05, True)])
def test_lissa_converges_below_twice_its_scale_and_is_refused_beyond(scale, converges):
    matrix, vectors = spd(), torch.randn(3, 12, dtype=DOUBLE)  # the largest eigenvalue is 2
    solver = LiSSA(batch_size=None, repeats=1, scale=scale, depth=1000).fit(Matrix(matrix))
    if converges:
        close(solver.solve(vectors).x, exact(matrix, vectors))
    else:
        with pytest.raises(DivergedError, match=r"LiSSA diverged .*scale 0.95.*larger scale"):
            solver.solve(vectors)


@pytest.mark.usefixtures("unchecked")  # for speed
def test_lissa_by_single_examples_is_unbiased_and_knows_its_error():
    problem = convex("logistic")
    vectors = problem.query_gradients()[:1]
    settings = {"batch_size": 1, "scale": 6.0, "depth": 10}
    objective = problem.objective()
    series = neumann(problem.hessian(), vectors, 6.0, 10)
    solution = LiSSA(repeats=150, **settings).fit(objective).solve(vectors)
    spread = solution.repeats.std(0) / math.sqrt(150)
    assert ((solution.x - series).abs() < 4 * spread).all()
    # Many small runs: the error they have is, on the whole, the error they say.
    errors, said = [], []
    for seed in range(20):
        run = LiSSA(repeats=8, seed=1000 * seed, **settings).fit(objective).solve(vectors)
        errors.append(float((run.x - series).norm() / run.x.norm()))
        said.append(float(run.report.standard_error[0]))
    ratio = math.sqrt(np.mean(np.square(errors)) / np.mean(np.square(said)))
    assert 0.6 < ratio < 1.5


def test_lissa_finds_a_scale_and_depth_that_converge():
    problem = convex("ridge")
    solver = LiSSA(batch_size=None, repeats=1, bias=1e-6).fit(problem.objective())
    assert solver.settings.scale > torch.linalg.eigvalsh(problem.hessian())[-1] / 2
    vectors = problem.query_gradients()
    close(solver.solve(vectors).x, exact(problem.hessian(), vectors), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("extreme", [7.0, -7.0])
def test_the_largest_eigenvalue_is_found_by_its_size(extreme):
    matrix = torch.diag(torch.tensor([0.5, extreme, 1.0, -2.0], dtype=DOUBLE))
    assert largest_eigenvalue(Matrix(matrix), None, torch.Generator().manual_seed(0)) == pytest.approx(7.0, rel=1e-4)


def test_without_curvature_the_largest_eigenvalue_is_taken_as_one():
    assert largest_eigenvalue(Matrix(torch.zeros(3, 3, dtype=DOUBLE)), None, torch.Generator()) == 1.0


def test_the_seed_decides_lissa():
    problem = convex("logistic")
    objective, vectors = problem.objective(), problem.query_gradients()
    settings = {"batch_size": 4, "repeats": 2, "depth": 30, "scale": 4.0}
    one, same, other = (LiSSA(seed=seed, **settings).fit(objective).solve(vectors).x for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


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


def test_the_scale_of_lissa_follows_its_damping_unless_it_was_given():
    operator = Matrix(spd())
    found, given = (
        LiSSA(scale=scale, batch_size=None, damping=0.1).fit(operator).with_damping(0.7).settings.scale
        for scale in (None, 5.0)
    )
    assert found == LiSSA(batch_size=None, damping=0.7).fit(operator).settings.scale
    assert given == 5.0


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


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (CG, "max_iterations", 0),
        (LSMR, "max_iterations", 0),
        (CG, "tolerance", 0.0),
        (CG, "tolerance", 2.0),
        (LiSSA, "repeats", 0),
        (LiSSA, "depth", 0),
        (LiSSA, "batch_size", 0),
        (LiSSA, "scale", -1.0),
        (Dense, "method", "lu"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(kind, name, value):
    with pytest.raises(InputError, match=f"^{name}: "):
        kind(**{name: value}).fit(Matrix(spd()))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", SOLVERS)
def test_vectors_of_the_wrong_shape_or_not_finite_are_refused(name):
    solver = SOLVERS[name].fit(Matrix(spd()))
    for vectors in (torch.ones(12, dtype=DOUBLE), torch.ones(2, 11, dtype=DOUBLE)):
        with pytest.raises(InputError, match=r"vectors: expected rows \[k, 12\]"):
            solver.solve(vectors)
    with pytest.raises(InputError, match="NaN or infinite"):
        solver.solve(torch.full((1, 12), math.nan, dtype=DOUBLE))


def test_a_matrix_too_large_to_factorise_is_refused_before_it_is_built():
    model = nn.Linear(20_001, 1, bias=False)
    objective = uw.Objective(model, uw.losses.SquaredError(), (torch.zeros(1, 20_001), torch.zeros(1)))
    with pytest.raises(InputError, match=r"p=20,001 needs \d+ GiB.*inverse.CG"):
        Dense().fit(objective)


def test_single_precision_reaches_what_it_promises_without_a_word():
    problem = convex("softmax")
    objective = problem.objective().to(torch.float32)
    vectors = problem.query_gradients().float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for inverse in (Dense(), CG(), LSMR()):
            solution = inverse.fit(objective).solve(vectors)
            assert solution.x.dtype == torch.float32
            assert solution.report.converged
            close(solution.x, exact(problem.hessian(), vectors.double()), rtol=1e-3, atol=1e-3)


def test_lissa_does_not_choose_millions_of_steps_for_a_tiny_penalty():
    model = torch.nn.Linear(2, 1, dtype=torch.float64)
    x = torch.eye(2, dtype=torch.float64).repeat(4, 1)
    objective = uw.Objective(model, uw.losses.SquaredError(), (x, x[:, 0]), l2=1e-9)
    assert uw.inverse.LiSSA(batch_size=None).fit(objective).settings.depth == 50_000
