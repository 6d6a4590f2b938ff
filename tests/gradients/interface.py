"""What every example function promises: a new one is tested by a subclass of `ExampleFunctionTests`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradients.functions import CASES, WEIGHTS, Case, N, Reference
from problems import DOUBLE, close
from upweight.errors import InputError
from upweight.gradients import ExampleFunction
from upweight.losses import Split
from upweight.parameters import select


@cache
def case_of(name: str) -> Case:
    torch.manual_seed(0)
    case = CASES[name]()
    case.model = case.model.to(DOUBLE).eval()
    return case


@cache
def reference_of(name: str) -> Reference:
    case = case_of(name)
    layout = select(case.model, case.parameters)
    return Reference(case, layout, layout.flatten(dict(case.model.named_parameters())).detach().clone())


@cache
def gradients_of(name: str) -> Tensor:
    return reference_of(name).gradients().detach()


@cache
def factors_of(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Jacobian of the outputs, gradient and Hessian of f in them; of a function that has outputs."""
    return reference_of(name).output_factors()


def some(batch: Any, rows: Any) -> Any:
    """Some examples of a batch."""
    return pytree.tree_map(lambda leaf: leaf[rows], batch)


@pytest.mark.usefixtures("unchecked")  # for speed
class ExampleFunctionTests:
    """Every derivative is that of `torch.func` on the plain function of θ, example by example, for each kind of model.

    A subclass gives ``made``, and ``cases`` where it serves some models only.
    """

    cases: ClassVar[Mapping[str, Callable[[], Case]]] = CASES
    """Models with a batch and a loss."""
    factored: ClassVar[bool] = True
    """Whether gradients come as factors of the model's operations."""
    linear: ClassVar[bool] = False
    """Whether the outputs are linear in θ."""
    single: ClassVar[float] = 1e-3
    """Relative distance of gradients in float32 from those in float64."""

    @classmethod
    def made(cls, case: Case, reference: Reference) -> ExampleFunction:
        """The function of a case's model and loss at the reference's θ."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.cases, scope="class")

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, name: str) -> Case:
        return case_of(name)

    @pytest.fixture(scope="class")
    @classmethod
    def reference(cls, name: str) -> Reference:
        return reference_of(name)

    @pytest.fixture(scope="class")
    @classmethod
    def function(cls, case: Case, reference: Reference) -> ExampleFunction:
        """One for all tests of a model."""
        return cls.made(case, reference)

    @pytest.fixture
    def vectors(self, reference: Reference) -> Tensor:
        return torch.randn(3, len(reference.params), dtype=DOUBLE)

    def test_it_says_what_it_is(self, case: Case, reference: Reference, function: ExampleFunction) -> None:
        assert isinstance(function, ExampleFunction)
        assert function.layout == reference.layout
        assert function.split == isinstance(case.loss, Split)
        assert function.factored == self.factored
        assert function.linear is (function if self.linear else None)
        assert function.factors > 0
        names = [name for shape in function.plan.shapes for name in shape.names]
        assert sorted(names) == sorted(reference.layout.names)
        assert sum(shape.rows * shape.columns for shape in function.plan.shapes) == len(reference.params)

    def test_values_and_outputs_are_the_model_s(
        self, case: Case, reference: Reference, function: ExampleFunction
    ) -> None:
        values = function.values(reference.params, case.batch)
        close(values, reference.values(reference.params))
        assert not values.requires_grad
        close(function.values(reference.params + 0.1, case.batch), reference.values(reference.params + 0.1))
        if function.split:
            outputs = function.outputs_of(reference.params, case.batch)
            close(outputs.flatten(1), reference.outputs(reference.params))

    def test_gradients_of_sums_are_those_of_torch_func(
        self, name: str, case: Case, reference: Reference, function: ExampleFunction
    ) -> None:
        total, gradient = function.gradient(reference.params, case.batch, WEIGHTS)
        close(total, WEIGHTS @ reference.values(reference.params))
        close(gradient, WEIGHTS @ gradients_of(name))
        assert not gradient.requires_grad

    def test_gradients_at_several_parameters_are_those_at_each(
        self, case: Case, reference: Reference, function: ExampleFunction
    ) -> None:
        several = torch.stack([reference.params, reference.params + 0.1, -reference.params])
        totals, gradients = function.gradients(several, case.batch, WEIGHTS)
        for params, total, gradient in zip(several, totals, gradients, strict=True):
            there = Reference(case, reference.layout, params)
            close(total, WEIGHTS @ there.values(params))
            close(gradient, WEIGHTS @ there.gradients())

    def test_every_example_has_its_own_gradient(
        self, name: str, case: Case, reference: Reference, function: ExampleFunction, vectors: Tensor
    ) -> None:
        rows, weights = gradients_of(name), torch.randn(2, N, dtype=DOUBLE)
        for compacted in (True, False):
            each = function.each(reference.params, case.batch, compacted=compacted)
            assert each.examples == N
            assert each.shapes == tuple(function.plan.shapes)
            close(each.materialize(), rows)
            close(each.inner(vectors), vectors @ rows.T)
            close(each.combine(weights), weights @ rows)
            close(each.gram(each), rows @ rows.T)
            close(each.norms(), (rows**2).sum(1))
            assert not each.materialize().requires_grad

    def test_cotangents_of_the_outputs_go_back_to_the_parameters(
        self, name: str, case: Case, reference: Reference, function: ExampleFunction
    ) -> None:
        if not function.split:
            return
        cotangents = torch.randn_like(function.outputs_of(reference.params, case.batch))
        expected = torch.einsum("ncp,nc->np", factors_of(name)[0], cotangents.flatten(1))
        for compacted in (True, False):
            for given in (cotangents, lambda outputs: cotangents.reshape(outputs.shape)):
                each = function.each(reference.params, case.batch, given, compacted=compacted)
                close(each.materialize(), expected)
                close(each.norms(), (expected**2).sum(1))

    def test_hessian_products_are_those_of_the_whole_hessian(
        self, case: Case, reference: Reference, function: ExampleFunction, vectors: Tensor
    ) -> None:
        products = function.hessian_product(reference.params, case.batch, WEIGHTS, vectors)
        close(products, vectors @ reference.hessian(WEIGHTS))
        assert not products.requires_grad
        assert function.hessian_product(reference.params, case.batch, WEIGHTS, vectors[:0]).shape == vectors[:0].shape

    def test_ggn_products_and_output_factors_are_those_of_whole_jacobians(
        self, name: str, case: Case, reference: Reference, function: ExampleFunction, vectors: Tensor
    ) -> None:
        if not function.split:
            for call in (
                lambda: function.ggn_product(reference.params, case.batch, WEIGHTS, vectors),
                lambda: function.output_factors(reference.params, case.batch),
                lambda: function.outputs_of(reference.params, case.batch),
            ):
                with pytest.raises(InputError, match=r"GGN and leverages need a loss with the split.*use the Hessian"):
                    call()
            return
        jacobian, slope, curvature = factors_of(name)
        found = function.output_factors(reference.params, case.batch)
        for actual, expected in zip(found, (jacobian, slope, curvature), strict=True):
            close(actual, expected)
            assert not actual.requires_grad
        close(torch.einsum("ncp,nc->np", found[0], found[1]), gradients_of(name))
        matrix = torch.einsum("n,ncp,ncd,ndq->pq", WEIGHTS, jacobian, curvature, jacobian)
        close(function.ggn_product(reference.params, case.batch, WEIGHTS, vectors), vectors @ matrix)
        assert function.ggn_product(reference.params, case.batch, WEIGHTS, vectors[:0]).shape == vectors[:0].shape

    def test_one_example_is_as_it_is_among_the_others(
        self, name: str, case: Case, reference: Reference, function: ExampleFunction
    ) -> None:
        ones = [some(case.batch, slice(row, row + 1)) for row in range(N)]
        close(torch.cat([function.values(reference.params, one) for one in ones]), reference.values(reference.params))
        for compacted in (True, False):
            each = [function.each(reference.params, one, compacted=compacted) for one in ones]
            close(torch.cat([one.materialize() for one in each]), gradients_of(name))
        for one, row in zip(ones, gradients_of(name), strict=True):
            close(function.gradient(reference.params, one, WEIGHTS[:1])[1], WEIGHTS[0] * row)

    def test_the_order_and_the_batches_of_the_examples_change_rounding_only(
        self, name: str, case: Case, reference: Reference, function: ExampleFunction, vectors: Tensor
    ) -> None:
        params, order = reference.params, torch.tensor([3, 0, 4, 1, 2])
        parts = [(rows, some(case.batch, rows)) for rows in order.split([2, 3])]
        for compacted in (True, False):
            each = [function.each(params, batch, compacted=compacted).materialize() for _, batch in parts]
            close(torch.cat(each), gradients_of(name)[order])
        values = torch.cat([function.values(params, batch) for _, batch in parts])
        close(values, reference.values(params)[order])
        products = [function.hessian_product] + ([function.ggn_product] if function.split else [])
        for product in products:
            summed = sum(product(params, batch, WEIGHTS[rows], vectors) for rows, batch in parts)
            close(summed, product(params, case.batch, WEIGHTS, vectors))

    def test_single_precision_is_near_double(
        self, name: str, case: Case, reference: Reference, vectors: Tensor
    ) -> None:
        batch = pytree.tree_map(lambda leaf: leaf.float() if leaf.is_floating_point() else leaf, case.batch)
        single = replace(case, model=copy.deepcopy(case.model).float(), batch=batch)
        params, weights = reference.params.float(), WEIGHTS.float()
        function = self.made(single, Reference(single, reference.layout, params))
        matrix = reference.hessian(WEIGHTS)
        for actual, expected in (
            (function.each(params, batch).materialize(), gradients_of(name)),
            (function.gradient(params, batch, weights)[1], WEIGHTS @ gradients_of(name)),
            (function.hessian_product(params, batch, weights, vectors.float()), vectors @ matrix),
        ):
            assert actual.dtype == torch.float32
            assert float((actual.double() - expected).norm()) <= self.single * float(expected.norm())

    def test_the_model_and_its_gradients_stay_as_they_were(
        self, case: Case, reference: Reference, function: ExampleFunction, vectors: Tensor
    ) -> None:
        model, state = case.model, torch.random.get_rng_state()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        identities = [id(value) for value in (*model.parameters(), *model.buffers())]
        function.each(reference.params + 1, case.batch)
        function.gradient(reference.params + 1, case.batch, WEIGHTS)
        function.hessian_product(reference.params + 1, case.batch, WEIGHTS, vectors)
        assert [id(value) for value in (*model.parameters(), *model.buffers())] == identities
        assert all(value.grad is None and value.requires_grad for value in model.parameters())
        assert not any(part.training or part._forward_hooks for part in model.modules())
        assert torch.equal(torch.random.get_rng_state(), state)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name]), name
