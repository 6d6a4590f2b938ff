"""What every curvature and every operator promises: a new one is tested by a subclass of the classes here."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import DOUBLE, Problem, close, conv, convex, mlp
from upweight import curvature
from upweight.curvature import Curvature, Difference, Operator, RowCurvature, mean_eigenvalue
from upweight.errors import InputError

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "ridge": lambda: convex("ridge"),
    "logistic": lambda: convex("logistic"),
    "softmax": lambda: convex("softmax"),
    "mlp": lambda: mlp(n=12),
    "conv": conv,
}


@pytest.mark.usefixtures("unchecked")  # for speed
class OperatorTests:
    """Symmetric, linear, its products those of its matrix.

    A subclass gives ``made`` and its type. What doesn't hold is switched off by an attribute, with the reason.
    """

    kind: ClassVar[type]
    """The operator's type."""

    @classmethod
    def made(cls) -> Operator:
        """An operator to test, in float64."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def operator(cls) -> Operator:
        """One for all tests, which don't change it."""
        return cls.made()

    @pytest.fixture
    def vectors(self, operator: Operator) -> Tensor:
        return torch.randn(4, operator.size, dtype=DOUBLE)

    def test_it_says_its_form(self, operator: Operator) -> None:
        assert type(operator) is self.kind
        assert isinstance(operator, Operator)
        matrix = operator.dense()
        assert matrix.shape == (operator.size, operator.size)
        assert matrix.dtype == operator.dtype == DOUBLE
        assert matrix.device == operator.device
        assert not matrix.requires_grad

    def test_its_products_are_those_of_its_matrix(self, operator: Operator, vectors: Tensor) -> None:
        kept = vectors.clone()
        matrix = operator.dense()
        close(operator.apply(vectors), vectors @ matrix)
        close(operator.apply(torch.eye(operator.size, dtype=DOUBLE)), matrix)
        assert torch.equal(vectors, kept)
        assert float(matrix.norm()) > 0

    def test_it_is_symmetric(self, operator: Operator, vectors: Tensor) -> None:
        products = operator.apply(vectors) @ vectors.T
        close(products, products.T)
        close(operator.dense(), operator.dense().T)

    def test_it_is_linear(self, operator: Operator, vectors: Tensor) -> None:
        u, v = vectors[:2], vectors[2:]
        close(operator.apply(3 * u - 0.5 * v), 3 * operator.apply(u) - 0.5 * operator.apply(v))
        assert not operator.apply(torch.zeros_like(u)).any()

    def test_vectors_together_are_as_one_by_one(self, operator: Operator, vectors: Tensor) -> None:
        together = operator.apply(vectors)
        close(torch.cat([operator.apply(row) for row in vectors.split(1)]), together)
        assert operator.apply(vectors[:0]).shape == (0, operator.size)

    @pytest.mark.parametrize("case", ["too narrow", "too wide", "no rows", "blocks"])
    def test_vectors_of_another_form_are_refused_by_name(self, case: str, operator: Operator) -> None:
        right = torch.ones(2, operator.size, dtype=DOUBLE)
        wrong = {
            "too narrow": right[:, 1:],
            "too wide": torch.cat([right, right], 1),
            "no rows": right[0],
            "blocks": right[None],
        }
        said = rf"expected \[k, {operator.size}\] \(rows\); got \(" if case.startswith("too") else ""
        with pytest.raises(InputError, match=f"^vectors: {said}"):
            operator.apply(wrong[case])

    def test_the_mean_eigenvalue_is_that_of_its_matrix(self, operator: Operator) -> None:
        close(mean_eigenvalue(operator, samples=operator.size), operator.dense().trace() / operator.size)

    def test_pickled_it_is_the_same(self, operator: Operator, vectors: Tensor) -> None:
        other = pickle.loads(pickle.dumps(operator))
        assert torch.equal(other.apply(vectors), operator.apply(vectors))
        assert torch.equal(other.dense(), operator.dense())


class CurvatureTests(OperatorTests):
    """A choice of matrix, which an objective makes an operator: as defined, with the penalty on its diagonal."""

    curvature: ClassVar[Curvature]
    positive: ClassVar[bool] = True
    """Whether no eigenvalue is negative."""
    ordered: ClassVar[bool] = False
    """Whether an example's place among the training data matters: what is drawn for it goes by its position."""

    @classmethod
    def made(cls) -> Operator:
        return cls.curvature.of(mlp(n=12).objective())

    def definition(self, problem: Problem, counts: Tensor) -> Tensor | None:
        """The matrix of Σ counts_i ℓ_i without a penalty, by plain means; None where it is random."""
        raise NotImplementedError

    def test_its_repr_makes_an_equal_one_and_its_settings_are_frozen(self) -> None:
        again = eval(repr(self.curvature), vars(curvature))
        assert again == self.curvature
        assert hash(again) == hash(self.curvature)
        assert pickle.loads(pickle.dumps(self.curvature)) == self.curvature
        for name in [each.name for each in fields(self.curvature)] or ["size"]:  # type: ignore[arg-type]
            with pytest.raises(FrozenInstanceError):
                setattr(self.curvature, name, 1)

    def test_it_has_its_name(self, operator: Operator) -> None:
        assert isinstance(self.curvature, Curvature)
        assert self.curvature.name
        assert operator.name == self.curvature.name  # type: ignore[attr-defined]

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_it_is_the_matrix_of_its_definition(self, name: str) -> None:
        problem = PROBLEMS[name]()
        expected = self.definition(problem, torch.full((problem.n,), 1 / problem.n, dtype=DOUBLE))
        if expected is None:
            return
        expected = expected + problem.l2 * torch.eye(len(expected), dtype=DOUBLE)
        operator, vectors = self.curvature.of(problem.objective()), torch.randn(3, len(expected), dtype=DOUBLE)
        close(operator.dense(), expected, rtol=1e-8, atol=1e-10)
        close(operator.apply(vectors), vectors @ expected, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("name", ["softmax", "mlp"])
    def test_weights_of_examples_count(self, name: str) -> None:
        problem = PROBLEMS[name]()
        weights = torch.linspace(0, 2, problem.n, dtype=DOUBLE)
        expected = self.definition(problem, weights / problem.n)
        if expected is None:
            return
        operator = self.curvature.of(problem.objective(weights=weights, l2=0.0))
        close(operator.dense(), expected, rtol=1e-8, atol=1e-10)
        close(operator.apply(torch.eye(operator.size, dtype=DOUBLE)), expected, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("name", ["softmax", "mlp"])
    def test_the_penalty_is_on_its_diagonal(self, name: str) -> None:
        problem = PROBLEMS[name]()
        penalised, plain = problem.objective(l2={"*weight": 0.3}), problem.objective(l2=0.0)
        assert len(penalised.l2.unique()) == 2
        identity = torch.eye(penalised.p, dtype=DOUBLE)
        first, second = self.curvature.of(penalised), self.curvature.of(plain)
        close(first.dense() - second.dense(), torch.diag(penalised.l2))
        close(first.apply(identity) - second.apply(identity), torch.diag(penalised.l2))

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_no_eigenvalue_is_negative(self, name: str) -> None:
        operator = self.curvature.of(PROBLEMS[name]().objective(l2=0.0))
        values = torch.linalg.eigvalsh(operator.dense())
        if self.positive or name in ("ridge", "logistic", "softmax"):
            assert values[0] > -1e-12 * values[-1]
        elif hasattr(operator, "is_positive"):
            assert not operator.is_positive

    @pytest.mark.parametrize("name", ["softmax", "mlp", "conv"])
    def test_its_rows_make_it(self, name: str) -> None:
        if not isinstance(self.curvature, RowCurvature):
            return
        objective = PROBLEMS[name]().objective(weights=torch.linspace(0, 2, PROBLEMS[name]().n, dtype=DOUBLE))
        rows = self.curvature.rows(objective)
        factors = rows.factors(torch.arange(len(rows))).materialize()
        expected = self.curvature.of(objective).dense()
        close(factors.T @ factors + torch.diag(objective.l2), expected, rtol=1e-8, atol=1e-10)

    def test_batches_and_the_order_of_the_data_change_rounding_only(self, operator: Operator, vectors: Tensor) -> None:
        problem = mlp(n=12)
        data = (problem.x.flip(0), problem.y.flip(0))
        for options in ({"batch_size": 1}, {"batch_size": 5}, *([] if self.ordered else [{"data": data}])):
            other = self.curvature.of(problem.objective(**options))
            close(other.dense(), operator.dense())
            close(other.apply(vectors), operator.apply(vectors))

    def test_single_precision_is_near_double(self, operator: Operator, vectors: Tensor) -> None:
        single = self.curvature.of(mlp(n=12).objective().to(torch.float32))
        assert single.dtype == torch.float32
        close(single.dense(), operator.dense(), rtol=1e-3, atol=1e-4)
        close(single.apply(vectors.float()), operator.apply(vectors), rtol=1e-3, atol=1e-4)

    def test_the_model_and_the_random_states_stay_as_they_were(self) -> None:
        problem = mlp(n=12)
        before = {name: value.clone() for name, value in problem.model.state_dict().items()}
        states: Any = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index]  # noqa: NPY002
        operator = self.curvature.of(problem.objective())
        operator.apply(operator.dense())
        assert torch.equal(torch.random.get_rng_state(), states[0])
        assert (np.random.get_state()[1] == states[1]).all()  # type: ignore[index]  # noqa: NPY002
        assert random.getstate() == states[2]
        assert all(value.grad is None and value.requires_grad for value in problem.model.parameters())
        for name, value in problem.model.state_dict().items():
            assert torch.equal(value, before[name]), name


class SummedTests(CurvatureTests):
    """A sum over examples, of which an operator takes parts: those of some examples, or an estimate by them."""

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_the_part_of_some_examples_is_theirs_without_the_penalty(self, name: str) -> None:
        problem = PROBLEMS[name]()
        counts = torch.zeros(problem.n, dtype=DOUBLE)
        counts[:5] = 1 / problem.n
        operator: Any = self.curvature.of(problem.objective())
        part, expected = operator.share(range(5)), self.definition(problem, counts)
        vectors = torch.randn(2, operator.size, dtype=DOUBLE)
        assert expected is not None
        close(part.dense(), expected, rtol=1e-8, atol=1e-10)
        close(part.apply(vectors), vectors @ expected, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_the_parts_of_groups_add_up_to_the_whole(self, name: str) -> None:
        problem = PROBLEMS[name]()
        operator: Any = self.curvature.of(problem.objective())
        vectors = torch.randn(2, operator.size, dtype=DOUBLE)
        first, rest = operator.share(range(5)), operator.share(range(5, problem.n))
        penalty = problem.l2 * torch.eye(operator.size, dtype=DOUBLE)
        close(first.apply(vectors) + rest.apply(vectors) + vectors @ penalty, operator.apply(vectors))
        close(Difference(operator, first).apply(vectors), rest.apply(vectors) + vectors @ penalty)
        close(Difference(operator, first).dense(), rest.dense() + penalty)

    @pytest.mark.parametrize("name", PROBLEMS)
    def test_a_sample_s_is_the_mean_over_it_with_the_penalty(self, name: str) -> None:
        problem = PROBLEMS[name]()
        counts = torch.zeros(problem.n, dtype=DOUBLE)
        counts[[3, 1, 4]] = 1 / 3
        operator: Any = self.curvature.of(problem.objective())
        expected = self.definition(problem, counts)
        assert expected is not None
        expected = expected + problem.l2 * torch.eye(operator.size, dtype=DOUBLE)
        close(operator.sampled(torch.tensor([3, 1, 4])).dense(), expected, rtol=1e-8, atol=1e-10)
