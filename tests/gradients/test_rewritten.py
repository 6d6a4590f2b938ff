"""Operations whose derivatives torch gets wrong, or can't give, in a form that is right."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight.errors import InputError
from upweight.gradients.rewritten import embedding_bag, weight_norm

CE = uw.losses.CrossEntropy()


class WrittenOut(nn.Module):
    """A weight-normed layer by its formula."""

    def __init__(self, layer: nn.Module, dim: int, last: nn.Linear):
        super().__init__()
        self.bias, self.dim, self.last = nn.Parameter(layer.bias.detach().clone()), dim, last
        self.g = nn.Parameter(layer.parametrizations.weight.original0.detach().clone())
        self.v = nn.Parameter(layer.parametrizations.weight.original1.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        others = 1 - self.dim
        weight = self.g * self.v / (self.v**2).sum(others, keepdim=True).sqrt()
        return self.last((x @ weight.T + self.bias).tanh())


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("old", [False, True])
def test_second_derivatives_of_weight_norm_are_those_of_its_formula(dim: int, old: bool) -> None:
    last, first = nn.Linear(4, 2), nn.Linear(3, 4)
    normed = nn.utils.parametrizations.weight_norm(first, dim=dim)
    written = WrittenOut(normed, dim, last).to(DOUBLE)
    if old:
        plain = nn.Linear(3, 4)
        plain.load_state_dict({"weight": normed.weight.detach(), "bias": normed.bias.detach()})
        normed = nn.utils.weight_norm(plain, dim=dim)
        normed.weight_g.data, normed.weight_v.data = written.g.detach().float(), written.v.detach().float()
    model = nn.Sequential(normed, nn.Tanh(), last).to(DOUBLE)
    data = (torch.randn(12, 3, dtype=DOUBLE), torch.arange(12) % 2)
    inverse = uw.inverse.Dense(damping=0.3, method="eigen", indefinite=True)
    scores = [
        uw.Influence(uw.Objective(each, CE, data, l2=0.01), inverse).attribute((data[0][:2], data[1][:2])).scores
        for each in (model, written)
    ]
    close(*scores, rtol=1e-6 if old else 1e-9, atol=1e-9)


def test_weight_norm_of_a_whole_weight() -> None:
    v, g = torch.randn(4, 3, dtype=DOUBLE), torch.randn((), dtype=DOUBLE)
    close(weight_norm(v, g, -1), v * g / v.norm())
    close(weight_norm(v, g.expand(4, 1), 0), torch._weight_norm(v, g.expand(4, 1).clone(), 0))


class Bag(nn.Module):
    """Means of embeddings."""

    def __init__(self, sparse: bool):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(7, 3, sparse=sparse, mode="mean"), nn.Linear(3, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.bag(ids))


def table(sparse: bool, padding: int | None = None) -> nn.Module:
    return nn.Sequential(nn.Embedding(7, 3, padding, sparse=sparse), nn.Flatten(), nn.Linear(6, 2))


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
@pytest.mark.parametrize("make", [table, lambda sparse: table(sparse, 2), Bag], ids=["table", "padded", "bag"])
@pytest.mark.parametrize("inverse", [uw.inverse.Dual(damping=0.1), uw.inverse.Dense(uw.curvature.GGN(), damping=0.1)])
def test_sparse_embeddings_are_the_same_function(make: object, inverse: object) -> None:
    ids, labels, found = torch.randint(0, 7, (6, 2)), torch.arange(6) % 2, []
    for sparse in (False, True):
        torch.manual_seed(1)
        model = make(sparse).to(DOUBLE).eval()  # type: ignore[operator]
        objective = uw.Objective(model, CE, (ids, labels), l2=0.1)
        found.append(uw.Influence(objective, inverse).attribute((ids[:2], labels[:2])).scores)  # type: ignore[arg-type]
        assert uw.Influence(objective, inverse).self_influence().scores.isfinite().all()  # type: ignore[arg-type]
        assert all(parameter.grad is None for parameter in model.parameters())
    close(*found)


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("padding", [None, 2, -1])
def test_bags_by_lookups_are_torchs(mode: str, padding: int | None) -> None:
    weight, ids = torch.randn(7, 3, dtype=DOUBLE), torch.randint(0, 7, (5, 4))
    close(
        embedding_bag(ids, weight, mode=mode, padding_idx=padding),
        F.embedding_bag(ids, weight, mode=mode, padding_idx=padding),
    )
    flat, offsets = torch.randint(0, 7, (9,)), torch.tensor([0, 2, 2, 5])
    for more in ({}, {"include_last_offset": True}):
        ends = torch.cat([offsets, torch.tensor([9])]) if more else offsets
        expected = F.embedding_bag(flat, weight, ends, mode=mode, padding_idx=padding, **more)
        close(embedding_bag(flat, weight, ends, mode=mode, padding_idx=padding, **more), expected)
    shares = torch.rand(5, 4, dtype=DOUBLE)
    close(
        embedding_bag(ids, weight, mode="sum", per_sample_weights=shares),
        F.embedding_bag(ids, weight, mode="sum", per_sample_weights=shares),
    )


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
def test_hard_sigmoids_have_a_hessian() -> None:
    data = (torch.randn(9, 3, dtype=DOUBLE), torch.arange(9) % 2)
    model = nn.Sequential(nn.Linear(3, 4), nn.Hardsigmoid(), nn.Linear(4, 2)).to(DOUBLE).eval()
    objective = uw.Objective(model, CE, data, l2=0.1)
    found = uw.curvature.Hessian().of(objective).dense()
    step = 1e-5 * torch.eye(objective.p, dtype=DOUBLE)
    ahead, back = (objective.risks_and_gradients(objective.params + sign * step)[1] for sign in (1, -1))
    close(found, (ahead - back) / 2e-5, rtol=1e-5, atol=1e-7)


class Apart(nn.Module):
    """Distances by an operation that torch differentiates once."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.points, self.head = nn.Linear(3, 3), nn.Parameter(torch.randn(5, 3)), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cdist(self.layer(x), self.points, p=1.5))


@pytest.mark.filterwarnings("ignore:.*not at an optimum")
@pytest.mark.filterwarnings("ignore::upweight.errors.SlowPathWarning")
@pytest.mark.parametrize(
    "inverse", [uw.inverse.Dense(damping=1.0), uw.inverse.CG(damping=1.0), uw.inverse.LSMR(damping=1.0)]
)
def test_what_torch_differentiates_once_is_named_with_what_works(inverse: object) -> None:
    data = (torch.randn(9, 3, dtype=DOUBLE), torch.arange(9) % 2)
    objective = uw.Objective(Apart().to(DOUBLE).eval(), CE, data, l2=0.1)
    with pytest.raises(InputError, match=r"curvature: torch can't differentiate _?cdist\w* of this model twice.*EKFAC"):
        uw.Influence(objective, inverse).attribute(objective.data.take([0]))  # type: ignore[arg-type]
    assert uw.Influence(objective).attribute(objective.data.take([0])).scores.isfinite().all()
