"""What every inverse promises: a new one is tested by a subclass of `InverseTests` that says which it is."""

from __future__ import annotations

import math
import pickle
import random
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import DOUBLE, Problem, close, convex, mlp
from solvers import exact, spd
from upweight import curvature, inverse
from upweight.curvature import GGN, Matrix, Operator
from upweight.errors import InputError
from upweight.inverse import CG, Inverse, Preconditioner, Solver
from upweight.inverse.costs import Costed, Counts
from upweight.inverse.interface import name_of

PROBLEMS: dict[str, Callable[[], Problem]] = {"linear": lambda: convex("softmax", n=12), "network": lambda: mlp(n=12)}
QUERIES = 3


@pytest.mark.usefixtures("unchecked")  # for speed
class InverseTests:
    """Linear in the vectors, symmetric, (H+δI)⁻¹ of its own operator, the same whatever the batches.

    A subclass gives ``inverse``, with a damping that its matrix can be inverted at. What doesn't hold is switched off
    by the attributes below, each with the reason.
    """

    inverse: ClassVar[Inverse]
    exact: ClassVar[bool] = True
    """Whether solutions are those of the matrix that the solver names as its operator."""
    tolerance: ClassVar[float] = 1e-8
    """Relative distance of solutions that should be equal, in float64."""
    single: ClassVar[float] = 1e-3
    """Relative distance of solutions in float32 from those in float64."""
    symmetric: ClassVar[bool] = True
    """Whether uᵀH⁻¹v = vᵀH⁻¹u."""
    ordered: ClassVar[bool] = False
    """Whether an example's place among the training data matters: what is drawn for it goes by its position."""
    damped: ClassVar[bool] = True
    """Whether there is a damping."""
    described: ClassVar[bool] = True
    """Whether its settings are words and numbers, by which it can be made again, and not tensors."""
    by_rows: ClassVar[bool] = False
    """Whether it needs an objective, whose curvature it takes by rows; else any symmetric operator will do."""
    shifted: ClassVar[bool] = True
    """Whether its damping is δI in the coordinates of the vectors, of which residuals are."""
    undamped: ClassVar[bool] = True
    """Whether a positive definite matrix needs no damping."""
    positional: ClassVar[tuple[str, ...]] = ("curvature",)
    """Settings that may be given without their name."""
    models: ClassVar[tuple[str, ...]] = ("network", "linear")
    """Of `PROBLEMS`; most is tested on the first one."""

    @pytest.fixture(scope="class")
    @classmethod
    def problem(cls) -> Problem:
        return PROBLEMS[cls.models[0]]()

    @pytest.fixture(scope="class")
    @classmethod
    def solver(cls, problem: Problem) -> Solver:
        """One for all tests, which don't change it."""
        return cls.inverse.fit(problem.objective())

    @pytest.fixture
    def vectors(self, problem: Problem) -> Tensor:
        return problem.query_gradients()[:QUERIES]

    def same(self, actual: Tensor, expected: Tensor, tolerance: float | None = None) -> None:
        """Every row is near the expected one, measured by its length."""
        gaps = (actual.double() - expected.double()).norm(dim=1)
        allowed = (tolerance or self.tolerance) * expected.double().norm(dim=1)
        assert (gaps <= allowed).all(), f"relative gaps {(gaps / expected.double().norm(dim=1)).tolist()}"

    def at(self, damping: float) -> Inverse:
        """The same settings with another δ."""
        return replace(self.inverse, damping=damping)  # type: ignore[type-var]

    def test_its_repr_makes_an_equal_one(self) -> None:
        if not self.described:
            assert repr(self.inverse) == repr(replace(self.inverse))  # type: ignore[type-var]
            return
        names = {**vars(inverse), **vars(curvature)}
        again = eval(repr(self.inverse), names)
        assert again == self.inverse
        assert again is not self.inverse
        assert hash(again) == hash(self.inverse)

    def test_other_settings_make_another(self) -> None:
        assert self.inverse != object()
        for each in fields(self.inverse):  # type: ignore[arg-type]
            value = getattr(self.inverse, each.name)
            if isinstance(value, float):
                assert replace(self.inverse, **{each.name: value / 2}) != self.inverse  # type: ignore[type-var]

    def test_its_settings_are_frozen(self) -> None:
        for name in [each.name for each in fields(self.inverse)] or ["damping"]:  # type: ignore[arg-type]
            with pytest.raises(FrozenInstanceError):
                setattr(self.inverse, name, 1)

    def test_what_comes_after_the_curvature_goes_by_name(self) -> None:
        by_place = [each.name for each in fields(self.inverse) if not each.kw_only]  # type: ignore[arg-type]
        assert tuple(by_place) == self.positional

    def test_fitted_it_is_a_solver(self, problem: Problem, solver: Solver) -> None:
        assert isinstance(self.inverse, Inverse)
        assert not isinstance(self.inverse, Solver)
        assert isinstance(solver, Solver)
        assert not isinstance(solver, Inverse)
        assert isinstance(solver.operator, Operator)
        assert solver.operator.size == len(problem.theta)
        assert 0 <= solver.damping < math.inf

    def test_solving_is_linear_in_the_vectors(self, solver: Solver, vectors: Tensor) -> None:
        u, v = vectors[:2]
        x, y, together = solver.solve(torch.stack([u, v, 3 * u - 0.5 * v])).x
        self.same(together[None], (3 * x - 0.5 * y)[None])

    def test_vectors_are_solved_alike_in_any_order_and_any_split(self, solver: Solver, vectors: Tensor) -> None:
        whole = solver.solve(vectors).x
        order = torch.tensor([2, 0, 1])
        self.same(solver.solve(vectors[order]).x, whole[order])
        self.same(torch.cat([solver.solve(part).x for part in vectors.split([1, 2])]), whole)

    def test_no_vectors_have_no_solutions(self, solver: Solver) -> None:
        solution = solver.solve(torch.zeros(0, solver.operator.size, dtype=DOUBLE))
        assert solution.x.shape == (0, solver.operator.size)
        assert solution.report.converged
        str(solution.report)

    def test_zero_vectors_have_zero_solutions(self, solver: Solver, vectors: Tensor) -> None:
        alone = solver.solve(vectors).x
        vectors[1] = 0
        solution = solver.solve(vectors)
        assert torch.isfinite(solution.x).all()
        assert not solution.x[1].any()
        self.same(solution.x[[0, 2]], alone[[0, 2]])
        assert solution.report.converged

    def test_equal_calls_give_equal_answers_and_leave_the_vectors_alone(self, solver: Solver, vectors: Tensor) -> None:
        kept = vectors.clone()
        first, second, third = (solver.solve(vectors).x for _ in range(3))
        assert torch.equal(first, second)
        assert torch.equal(first, third)
        assert torch.equal(vectors, kept)
        assert not first.requires_grad
        assert first.data_ptr() != vectors.data_ptr()

    def test_it_is_symmetric(self, solver: Solver, vectors: Tensor) -> None:
        if not self.symmetric:
            return
        products = solver.solve(vectors).x @ vectors.T
        gap = float((products - products.T).norm() / products.norm())
        assert gap < self.tolerance

    def test_it_solves_for_the_matrix_that_it_says_it_has(self) -> None:
        if not self.exact:
            return
        settings = [self.inverse]
        if hasattr(self.inverse, "curvature"):
            settings.append(replace(self.inverse, curvature=GGN()))  # type: ignore[type-var]
        for problem, given in product([PROBLEMS[model]() for model in self.models], settings):
            solver, vectors = given.fit(problem.objective()), problem.query_gradients()
            matrix = solver.operator.dense()
            close(solver.operator.apply(torch.eye(solver.operator.size, dtype=DOUBLE)), matrix)
            self.same(solver.solve(vectors).x, exact(matrix, vectors, solver.damping))

    @pytest.mark.parametrize("damping", [0.0, 0.3])
    def test_it_solves_for_any_symmetric_operator(self, damping: float) -> None:
        matrix, vectors = spd(smallest=0.3), torch.randn(4, 12, dtype=DOUBLE)
        kept = matrix.clone()
        if self.by_rows:
            with pytest.raises(InputError, match=r"needs an objective"):
                self.inverse.fit(Matrix(matrix))
            return
        given = self.at(damping) if self.damped else self.inverse
        if damping == 0 and not self.undamped:
            with pytest.raises(InputError, match=r"damping: 0 .*; give damping > 0"):
                given.fit(Matrix(matrix))
            return
        solver = given.fit(Matrix(matrix))
        solution = solver.solve(vectors)
        assert solver.damping == solution.report.damping == (damping if self.damped else 0.0)
        assert torch.equal(matrix, kept)  # damping is not added in place
        if self.exact:
            self.same(solution.x, exact(matrix, vectors, damping))

    def test_another_damping_is_that_of_a_new_fit(self, problem: Problem, solver: Solver, vectors: Tensor) -> None:
        before = solver.solve(vectors).x
        other = solver.with_damping(0.7)
        moved = other.solve(vectors)
        assert torch.equal(solver.solve(vectors).x, before)  # the first one is as it was
        if not self.damped:
            assert torch.equal(moved.x, before)
            return
        again = self.at(0.7).fit(problem.objective())
        assert other.damping == again.damping == moved.report.damping == 0.7
        self.same(moved.x, again.solve(vectors).x)
        back = other.with_damping(solver.damping)
        assert back.damping == solver.damping
        self.same(back.solve(vectors).x, before)
        assert float((moved.x - before).norm()) > 1e-3 * float(before.norm())

    @pytest.mark.parametrize("damping", [-0.01, math.nan, math.inf, True, "much"])
    def test_a_damping_that_is_none_is_refused(self, damping: Any, solver: Solver) -> None:
        if not self.damped:
            return
        with pytest.raises(InputError, match=r"^damping: give a finite number ≥ 0"):
            solver.with_damping(damping)
        with pytest.raises(InputError, match=r"^damping: give a finite number ≥ 0"):
            self.at(damping)

    def test_the_report_says_what_was_solved_and_how_well(self, solver: Solver, vectors: Tensor) -> None:
        solution = solver.solve(vectors)
        report = solution.report
        assert report.damping == solver.damping
        assert report.converged
        assert report.residuals.shape == (len(vectors),)
        assert f"δ={report.damping:.3g}" in str(report)
        if self.exact:
            assert name_of(solver.operator).lower() in report.solver.lower()
        if self.shifted and not report.residuals.isnan().any():
            left = vectors - solver.operator.apply(solution.x) - solver.damping * solution.x
            close(report.residuals, left.norm(dim=1) / vectors.norm(dim=1), rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("case", ["too narrow", "too wide", "no rows", "blocks", "NaN", "infinite", "no tensor"])
    def test_vectors_that_are_none_are_refused_by_name(self, case: str, solver: Solver) -> None:
        right = torch.ones(2, solver.operator.size, dtype=DOUBLE)
        wrong: dict[str, Any] = {
            "too narrow": right[:, 1:],
            "too wide": torch.cat([right, right], 1),
            "no rows": right[0],
            "blocks": right[None],
            "NaN": right * math.nan,
            "infinite": right * math.inf,
            "no tensor": right.numpy(),
        }
        with pytest.raises(InputError, match=r"^vectors: "):
            solver.solve(wrong[case])

    def test_pickled_it_gives_equal_solutions(self, problem: Problem, vectors: Tensor) -> None:
        assert pickle.loads(pickle.dumps(self.inverse)) == self.inverse or not self.described
        solver = self.inverse.fit(problem.objective())
        early = pickle.loads(pickle.dumps(solver))
        x = solver.solve(vectors).x
        late = pickle.loads(pickle.dumps(solver))
        for other in (early, late):
            assert torch.equal(other.solve(vectors).x, x)
            assert other.damping == solver.damping

    def test_the_model_and_the_random_states_stay_as_they_were(self, problem: Problem, vectors: Tensor) -> None:
        before = {name: value.clone() for name, value in problem.model.state_dict().items()}
        states = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]  # noqa: NPY002
        solver = self.inverse.fit(problem.objective())
        solver.solve(vectors)
        solver.with_damping(0.7)
        assert torch.equal(torch.random.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()  # type: ignore[index]  # noqa: NPY002
        assert random.getstate() == states[2]
        assert not problem.model.training
        assert all(value.grad is None and value.requires_grad for value in problem.model.parameters())
        for name, value in problem.model.state_dict().items():
            assert torch.equal(value, before[name]), name

    def test_it_says_its_work_before_and_after_fitting(self, problem: Problem, solver: Solver) -> None:
        counts = Counts(problem.objective(), 3, 2**30)
        assert isinstance(self.inverse, Costed)
        assert isinstance(solver, Costed)
        names = [stage.name for stage in self.inverse.work(counts, timed=False).stages]
        assert {"queries", "scores"} <= set(names)
        for each in (self.inverse, solver):
            for timed in (True, False):
                work = each.work(counts, timed=timed)
                assert [stage.name for stage in work.stages] == names
                for stage in (*work.stages, *work.most):
                    assert stage.name
                    assert 0 < stage.flops < math.inf
                    assert 0 < stage.bytes < math.inf
                    assert stage.seconds is None or (timed and stage.seconds > 0)

    def test_single_precision_is_near_double(self, problem: Problem, solver: Solver, vectors: Tensor) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            solution = self.inverse.fit(problem.objective().to(torch.float32)).solve(vectors.float())
        assert solution.x.dtype == torch.float32
        assert solution.report.converged
        assert solver.solve(vectors).x.dtype == DOUBLE
        self.same(solution.x, solver.solve(vectors).x, self.single)

    def test_the_batch_size_and_the_order_of_the_data_change_rounding_only(
        self, problem: Problem, solver: Solver, vectors: Tensor
    ) -> None:
        x = solver.solve(vectors).x
        self.same(self.inverse.fit(problem.objective(batch_size=5)).solve(vectors).x, x)
        if not self.ordered:
            data = (problem.x.flip(0), problem.y.flip(0))
            self.same(self.inverse.fit(problem.objective(data=data)).solve(vectors).x, x)

    def test_it_preconditions_conjugate_gradients(self, problem: Problem, solver: Solver, vectors: Tensor) -> None:
        if not self.symmetric:
            return
        objective = problem.objective()
        identity = torch.eye(objective.p, dtype=DOUBLE)
        if isinstance(solver, Preconditioner):
            assert torch.linalg.eigvalsh(solver.precondition(identity))[0] > 0
            close(solver.precondition(identity), solver.precondition(identity).T)
        helped = CG(GGN(), damping=0.2, preconditioner=self.inverse).fit(objective).solve(vectors)
        assert helped.report.converged
        self.same(helped.x, exact(problem.ggn(), vectors, 0.2), 1e-7)
