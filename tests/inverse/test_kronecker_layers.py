"""K-FAC and EK-FAC of every layer and every use of it, however its input lies and however large it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from eigenbases import BOTH, SLOW, moments, objective_of, one_by_one, rotated
from gradients.layers import LAYERS
from problems import DOUBLE, close
from upweight.curvature import GGN, EmpiricalFisher, kronecker
from upweight.curvature.eigenbasis import Basis
from upweight.gradients import Block, Shape
from upweight.gradients.terms import Direct, Lookup, Outer
from upweight.inverse import EKFAC, KFAC
from upweight.losses import CrossEntropy


@SLOW
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_the_second_moments_of_its_own_gradients(name: str) -> None:
    objective = objective_of(LAYERS[name](), l2=0.01)
    solver = EKFAC(EmpiricalFisher(), damping=0.1).fit(objective)
    truth = one_by_one(objective)
    turned = rotated(solver.operator, truth)
    close(moments(solver.operator), (turned**2).sum(0), atol=1e-9)
    solved = rotated(solver.operator, solver.solve(truth).x)
    close(solved, turned / ((turned**2).sum(0) + 0.11), atol=1e-9)


class Patches(nn.Module):
    """A layer on an input whose dimensions were exchanged, as the patches of a vision transformer are."""

    def __init__(self, is_contiguous: bool):
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.head = nn.Linear(5, 6).double(), nn.Linear(24, 3).double()
        self.is_contiguous = is_contiguous

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return self.head(torch.tanh(self.embed(x.contiguous() if self.is_contiguous else x)).flatten(1))


class ReadTwice(nn.Module):
    """The product is read without its bias too, so that the bias is no column of the weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.weight = nn.Parameter(torch.randn(5, 4, dtype=DOUBLE))
        self.bias = nn.Parameter(torch.randn(4, dtype=DOUBLE))
        self.head = nn.Linear(4, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        product = x.mean(2) @ self.weight
        return self.head(torch.tanh(product + self.bias) + product)


@pytest.mark.filterwarnings("ignore:θ is not at an optimum")
@pytest.mark.parametrize("inverse", BOTH)
def test_a_bias_belongs_to_its_weight_however_the_input_lies_in_memory(inverse: Any) -> None:
    x, y = torch.randn(9, 5, 4, dtype=DOUBLE), torch.arange(9) % 3
    given = [uw.Objective(Patches(is_contiguous), CrossEntropy(), (x, y)) for is_contiguous in (True, False)]
    shapes = [[shape.names for shape in objective.engine.function.plan.shapes] for objective in given]
    assert shapes[0] == shapes[1] == [("embed.weight", "embed.bias"), ("head.weight", "head.bias")]
    first, second = (
        uw.Influence(objective, inverse(GGN(), damping=0.1)).attribute((x, y)).scores for objective in given
    )
    close(first, second)
    apart = uw.Objective(ReadTwice(), CrossEntropy(), (x, y))
    assert [shape.names for shape in apart.engine.function.plan.shapes][:2] == [("weight",), ("bias",)]
    close(torch.cat([g for _, g in apart.example_gradients()]), one_by_one(apart) * 3)


@pytest.mark.parametrize("inverse", [EKFAC, KFAC, uw.inverse.Dual, uw.inverse.Diagonal])
@pytest.mark.filterwarnings("ignore:θ is not at an optimum")
def test_one_training_example_is_enough(inverse: Any) -> None:
    model, (x, y) = Patches(True), (torch.randn(1, 5, 4, dtype=DOUBLE), torch.tensor([1]))
    alone = (
        uw.Influence(uw.Objective(model, CrossEntropy(), (x, y)), inverse(GGN(), damping=0.1)).attribute((x, y)).scores
    )
    twice = (torch.cat([x, x]), torch.cat([y, y]))
    both = (
        uw.Influence(uw.Objective(model, CrossEntropy(), twice), inverse(GGN(), damping=0.1)).attribute((x, y)).scores
    )
    close(alone, both.sum(1, keepdim=True))


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("t", [1, 2, 6, 20])
@pytest.mark.parametrize("sides", [(True, True), (True, False), (False, True), (False, False)])
def test_rotating_factors_is_rotating_gradients(t: int, sides: tuple[bool, bool], flat: bool) -> None:
    def orthogonal(d: int) -> Tensor:
        return torch.linalg.qr(torch.randn(d, d, dtype=DOUBLE))[0]

    shape = Shape("w", None, 4, 9)
    left, right = (
        orthogonal(1 if flat else 4) if sides[0] else None,
        orthogonal(36 if flat else 9) if sides[1] else None,
    )
    basis = Basis(shape, left, right, flat)
    outer = Outer(torch.randn(3, t, 4, dtype=DOUBLE), torch.randn(3, t, 9, dtype=DOUBLE))
    lookup = Lookup(torch.randint(0, 4, (3, t)), torch.randn(3, t, 9, dtype=DOUBLE), 4)
    for terms in ((outer,), (lookup,), (lookup, lookup), (outer, lookup), (Direct(outer.materialize()),)):
        block = Block(shape, terms)
        rotated = basis.term(block).materialize()
        close(rotated, basis.into(block.materialize()))
        close(basis.out_of(rotated), block.materialize())


@pytest.mark.parametrize("name", ["language model", "tied weights", "conv2d, groups", "plain parameters", "mlp"])
@pytest.mark.parametrize(("exact", "longest"), [(0, 8192), (1024, 5), (0, 5)])
def test_large_layers_have_coarser_bases_and_true_moments(
    name: str, exact: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kronecker, "EXACT", exact)
    monkeypatch.setattr(kronecker, "LONGEST_SIDE", longest)
    objective = objective_of(LAYERS[name](), l2=0.01)
    ekfac, kfac = (inverse(EmpiricalFisher(), damping=0.1).fit(objective) for inverse in BOTH)
    truth = one_by_one(objective)
    close(moments(ekfac.operator), (rotated(ekfac.operator, truth) ** 2).sum(0), atol=1e-9)
    assert all(q is None or len(q) <= longest for basis in ekfac.operator.bases for q in (basis.left, basis.right))
    assert bool((moments(kfac.operator) >= 0).all())
    assert bool(torch.isfinite(kfac.solve(truth).x).all())


class Changing(nn.Module):
    """Uses its weight in another operation when a batch holds a marked example."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        if bool((x[:, 0] > 5).any()):
            out = (x[:, None, :] * self.first.weight).sum(-1) + self.first.bias
        else:
            out = self.first(x)
        return self.last(torch.tanh(out))


@SLOW
def test_a_parameter_that_changes_its_way_in_the_middle_of_a_pass() -> None:
    torch.manual_seed(8)
    x, y, model = torch.randn(9, 2, dtype=DOUBLE), torch.arange(9) % 2, Changing().double()
    x[6, 0] = 6.0
    objective = uw.Objective(model, CrossEntropy(), (x, y), batch_size=3, validate=False)
    solver = EKFAC(EmpiricalFisher(), damping=0.1).fit(objective)
    close(moments(solver.operator), (rotated(solver.operator, one_by_one(objective)) ** 2).sum(0))
