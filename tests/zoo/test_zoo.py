"""Models of every kind people train: per-example gradients and curvature against plain torch, one example at a time.

In any batches and any order, in both precisions; and the model is the same afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import upweight as uw
from upweight.errors import InputError
from upweight.losses import Loss
from zoo import attention, graphs, hugging_face, images, losses, ragged, recurrent, routed, tabular, vision, wrapped
from zoo.alone import copied, count, gradients
from zoo.case import Case, in_double

FAMILIES = (vision, images, recurrent, ragged, attention, graphs, routed, tabular, losses, wrapped, hugging_face)
ZOO: dict[str, Callable[[], Case]] = {}
for family in FAMILIES:
    assert not ZOO.keys() & family.MODELS.keys()
    ZOO |= family.MODELS

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3}
PRODUCT, BY_DIFFERENCES = 1e-8, 1e-5
DAMPING = 0.3


def prepared(name: str) -> Case:
    case = ZOO[name]()
    return replace(case, model=case.model.eval())


def objective(case: Case, data: Any = None, **options: Any) -> uw.Objective:
    return uw.Objective(case.model, case.loss, case.data if data is None else data, collate=case.collate, **options)


def state(model: nn.Module) -> dict[str, Any]:
    held: dict[str, Any] = {name: value.detach().clone() for name, value in model.state_dict().items()}
    for name, value in model.named_parameters():
        assert value.grad is None, name
        held[f"{name} is trained"] = value.requires_grad
    for name, part in model.named_modules():
        hooks = [len(value) for key, value in vars(part).items() if key.endswith("_hooks") and isinstance(value, dict)]
        held[f"{name} is"] = (part.training, hooks)
    return held


def same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    def equal(a: Any, b: Any) -> bool:
        if not isinstance(a, Tensor):
            return bool(a == b)
        return torch.equal(a.to_dense(), b.to_dense()) if a.layout != torch.strided else torch.equal(a, b)

    return before.keys() == after.keys() and all(equal(before[key], after[key]) for key in before)


def permuted(data: Any, order: Tensor) -> Any:
    return [data[i] for i in order] if isinstance(data, list) else pytree.tree_map(lambda leaf: leaf[order], data)


def found(made: uw.Objective) -> Tensor:
    return torch.cat([block for _, block in made.example_gradients()]).double()


def near(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    gap, size = (actual - expected).norm(dim=-1), expected.norm(dim=-1)
    scale = float(size.max())
    assert bool((gap <= tolerance * (size + 1e-3 * scale)).all()), f"{what}: {gap.tolist()} of {size.tolist()}"


def all_gradients(case: Case, truth: Tensor, dtype: torch.dtype) -> uw.Objective:
    """Compared in any batches and any order; the objective of all examples as they come."""
    n, order = count(case), torch.randperm(count(case))
    first = objective(case)
    made = {
        "all": first,
        "one at a time": first.replace(batch_size=1),
        "permuted by threes": objective(case, permuted(case.data, order), batch_size=3, validate=False),
    }
    if case.padded is not None:
        made["padded"] = objective(case, case.padded(case.data), batch_size=4, validate=False)
    for what, each in made.items():
        expected = truth[order] if what.startswith("permuted") else truth
        near(found(each), expected, max(TOLERANCE[dtype], case.precision), f"{what}, {dtype}")
    assert len(truth) == n
    return first


def scores(case: Case, made: uw.Objective, truth: Tensor) -> None:
    """By the dual of the empirical Fisher matrix, which is known in full; by EK-FAC finite."""
    n, gram = len(truth), truth @ truth.T
    damping = DAMPING * float(gram.diagonal().mean()) / n  # so that no gradients are too large for the precision
    data = made.data.take(range(2))
    queries = [case.data[0], case.data[1]] if isinstance(case.data, list) else data
    dual = uw.inverse.Dual(uw.curvature.EmpiricalFisher(), damping=damping)
    attribution = uw.Influence(made, dual).attribute(queries).scores
    inner = torch.linalg.solve(n * damping * torch.eye(n, dtype=truth.dtype) + gram, gram)
    near(attribution, (gram[:2] - gram[:2] @ inner) / (n * damping), 1e-6, "scores")
    fisher = uw.curvature.GGN() if isinstance(case.loss, Loss) else uw.curvature.EmpiricalFisher()
    eigen = uw.Influence(made, uw.inverse.EKFAC(fisher, damping=damping)).attribute(queries).scores
    assert bool(torch.isfinite(eigen).all())


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_every_model_is_differentiated_rightly_or_refused_by_name(name: str) -> None:
    case = prepared(name)
    if case.refused:
        with pytest.raises(InputError, match=case.refused):
            found(objective(case))
        return
    double = replace(case, model=copied(case.model).double(), data=in_double(case.data))
    before = state(case.model), state(double.model)
    vector = torch.randn(sum(v.numel() for v in double.model.parameters() if v.requires_grad), dtype=torch.float64)
    truth, product = gradients(double, vector)
    assert 0 < truth.shape[1] < 5000
    assert bool(truth.any(1).all())
    made = all_gradients(double, truth, torch.float64)
    hessian = uw.curvature.Hessian().of(made)
    if case.once:
        with pytest.raises(InputError, match=case.once):
            hessian.apply(vector[None])
    else:
        assert product is not None
        tolerance = max(BY_DIFFERENCES if case.differences else PRODUCT, case.precision)
        near(hessian.apply(vector[None])[0], product, tolerance, "Hessian product")
    scores(double, made, truth)
    assert same(before[0], state(case.model))
    assert same(before[1], state(double.model))


IN_SINGLE = [pytest.param(name, marks=[pytest.mark.exhaustive] if name in hugging_face.MODELS else []) for name in ZOO]
"""Transformers' architectures in float32 are those of `test_padding.py` in the ordinary run."""


@pytest.mark.parametrize("name", IN_SINGLE)
@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
def test_so_it_is_in_single_precision(name: str) -> None:
    case = prepared(name)
    if case.refused:
        pytest.skip(f"refused: {case.refused}")
    before = state(case.model)
    truth, _ = gradients(replace(case, model=copied(case.model).double(), data=in_double(case.data)), None)
    all_gradients(case, truth, torch.float32)
    assert same(before, state(case.model))
