"""A gradient that is enormous at a kink is named with its operation, and so is a second derivative that is none."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import upweight as uw
from problems import DOUBLE, close
from upweight.errors import InputError, KinkWarning, NegativeCurvatureError

pytestmark = [
    pytest.mark.usefixtures("unchecked"),
    pytest.mark.filterwarnings("ignore:.*not at an optimum", "ignore:.*not reached"),
]
CE = uw.losses.CrossEntropy()
IDS = [f"row-{i}" for i in range(12)]


class Net(nn.Module):
    def __init__(self, kink, width=4):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.kink, self.head = nn.Linear(3, 4, bias=False), kink, nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.kink(self.layer(x)))


def ones(dtype, position=5):
    torch.manual_seed(1)
    x = torch.randn(12, 3, dtype=dtype)
    if position is not None:
        x[position] = 1
    return x, torch.arange(12) % 3


class Exact(Net):
    """The kink meets zero, to the bit, for a row of ones, whose gradient arrives at the weights all the same."""

    def forward(self, x):
        z = self.layer(x)
        z = torch.where((x == 1).all(1, keepdim=True), z - z.detach(), z)
        return self.head(self.kink(z))


def manual_rms(h):
    return h * torch.rsqrt(h.pow(2).mean(1, keepdim=True) + 1e-14)


def cosine(h):
    return F.cosine_similarity(h, torch.ones_like(h), dim=1)[:, None]


KINKS = {
    "normalize": (lambda h: F.normalize(h, dim=1), 4, r"Div \(a division, as in F\.normalize"),
    "cosine": (cosine, 1, "Div"),
    "layer norm": (lambda h: F.layer_norm(h, (4,), eps=1e-14), 4, r"NativeLayerNorm \(layer_norm\)"),
    "rms norm": (lambda h: F.rms_norm(h, (4,), eps=1e-14), 4, r"\w*(?:Rms|Rsqrt)\w* \("),
    "rms norm by hand": (manual_rms, 4, r"Rsqrt \(one over a root, as in rms_norm\)"),
    "division": (lambda h: h / (h.norm(dim=1, keepdim=True) + 1e-9), 4, r"Div \("),
}
INVERSES = {
    "dense": lambda: uw.inverse.Dense(uw.curvature.GGN(), damping=0.1),
    "dual": lambda: uw.inverse.Dual(damping=0.1),
}


def norms_by_hand(model, x, y):
    found = []
    for i in range(len(x)):
        value = F.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))]).norm())
    return torch.stack(found)


@pytest.mark.parametrize("inverse", INVERSES)
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("name", KINKS)
def test_an_enormous_gradient_is_named_with_its_multiple_and_its_operation(name, dtype, inverse):
    kink, width, operation = KINKS[name]
    model, (x, y) = Exact(kink, width).to(dtype), ones(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        objective = uw.Objective(model, CE, (x, y), l2=0.1, ids=IDS)
    influence = uw.Influence(objective, INVERSES[inverse]())
    norms = norms_by_hand(model, x, y)
    ratio = float(norms[5] / norms.median())
    assert ratio > 1e4
    # Such a row is beyond the precision of some inverses, which say so after the warning.
    with (
        pytest.warns(KinkWarning, match=rf"training example row-5 .*because of {operation}") as record,
        suppress(NegativeCurvatureError, RuntimeError),
    ):
        influence.attribute((x[:2], y[:2]))
    said = [str(each.message) for each in record if each.category is KinkWarning]
    assert len(said) == 1
    assert float(re.search(r"has norm (\S+),", said[0]).group(1)) == pytest.approx(float(norms[5]), rel=0.01)
    assert float(re.search(r"(\S+) × the median", said[0]).group(1)) == pytest.approx(ratio, rel=0.1)


def test_others_at_the_same_kink_are_named_beside_the_first():
    kink, width, _ = next(iter(KINKS.values()))
    model, (x, y) = Exact(kink, width).to(DOUBLE), ones(DOUBLE, [2, 5, 9])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        objective = uw.Objective(model, CE, (x, y), l2=0.1, ids=IDS)
    with pytest.warns(KinkWarning) as record:
        objective.stationarity()
    (said,) = [str(each.message) for each in record if each.category is KinkWarning]
    first = re.search(r"training example (row-\d+) has norm", said).group(1)
    others = re.search(r"\(as do ([^)]*)\)", said).group(1).split(", ")
    assert sorted([first, *others]) == ["row-2", "row-5", "row-9"]


@pytest.mark.parametrize("name", KINKS)
def test_nothing_is_said_where_no_row_is_at_the_kink(name):
    kink, width, _ = KINKS[name]
    x, y = ones(DOUBLE, None)
    objective = uw.Objective(Exact(kink, width).double(), CE, (x, y), l2=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", KinkWarning)
        objective.stationarity()


def test_a_wrong_label_among_well_fitted_ones_is_no_kink():
    torch.manual_seed(0)
    x = torch.randn(40, 3, dtype=DOUBLE).sign() * 3
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        model[2].weight.mul_(60)
        y = model(x).argmax(1)
    y[7] = (y[7] + 1) % 3
    norms = norms_by_hand(model, x, y)
    assert norms[7] > 1e4 * norms.median()
    for loss in (CE, lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none")):
        with warnings.catch_warnings():
            warnings.simplefilter("error", KinkWarning)
            uw.Objective(model, loss, (x, y)).stationarity()


def test_neither_is_an_outlier_of_a_regression():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    x = torch.randn(40, 3, dtype=DOUBLE)
    with torch.no_grad():
        y = model(x)[:, 0] + 1e-5 * torch.randn(40)
    y[3] += 100
    for change in (1.0, 1e6):
        x[9] *= change
        with warnings.catch_warnings():
            warnings.simplefilter("error", KinkWarning)
            uw.Objective(model, uw.losses.SquaredError(), (x, y)).stationarity()


def test_weights_are_no_kinks():
    weights = torch.ones(12)
    weights[2] = 1e6
    x, y = ones(DOUBLE, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", KinkWarning)
        uw.Objective(Exact(KINKS["normalize"][0]).double(), CE, (x, y), weights=weights).stationarity()


UNDEFINED = {
    "norm": (lambda h: h.norm(dim=1, keepdim=True), 1, r"LinalgVectorNorm \(a norm of zero\)"),
    "vector norm": (lambda h: torch.linalg.vector_norm(h, dim=1, keepdim=True), 1, r"LinalgVectorNorm"),
    "normalize": (lambda h: F.normalize(h, dim=1), 4, r"LinalgVectorNorm"),
    "distance": (lambda h: F.pairwise_distance(h, torch.zeros_like(h), eps=0.0)[:, None], 1, r"\w*Norm"),
    "power": (lambda h: h.clamp_min(0) ** 1.5, 4, r"Pow"),
}
SECOND = {
    "Dense": lambda: uw.inverse.Dense(damping=1.0),
    "CG": lambda: uw.inverse.CG(damping=1.0),
    "LSMR": lambda: uw.inverse.LSMR(uw.curvature.Hessian(), damping=1.0),
    "Nystrom": lambda: uw.inverse.Nystrom(3, uw.curvature.Hessian(), damping=1.0),
    "Arnoldi": lambda: uw.inverse.Arnoldi(3, uw.curvature.Hessian(), damping=1.0),
    "LiSSA": lambda: uw.inverse.LiSSA(uw.curvature.Hessian(), damping=1.0),
}


def zeroed(dtype=DOUBLE, position=5):
    torch.manual_seed(1)
    x = torch.randn(12, 3, dtype=dtype)
    x[position] = 0
    return x, torch.arange(12) % 3


@pytest.mark.parametrize("inverse", SECOND)
@pytest.mark.parametrize("name", UNDEFINED)
def test_a_second_derivative_that_is_none_is_refused_with_the_example_and_the_operation(name, inverse):
    kink, width, operation = UNDEFINED[name]
    x, y = zeroed()
    objective = uw.Objective(Net(kink, width).double(), CE, (x, y), l2=0.1, ids=IDS, batch_size=4)
    message = rf"second derivatives of training example row-5's loss are NaN or infinite, at {operation}.*GGN\(\)"
    with pytest.raises(InputError, match=message):
        uw.Influence(objective, SECOND[inverse]()).attribute((x[:2], y[:2]))


@pytest.mark.parametrize("name", [name for name in UNDEFINED if name != "normalize"])
def test_the_ggn_and_the_default_go_on_and_are_right(name):
    kink, width, _ = UNDEFINED[name]
    x, y = zeroed()
    model = Net(kink, width).double()
    objective = uw.Objective(model, CE, (x, y), l2=0.1)
    parameters, gradients, total = list(model.parameters()), [], 0
    for i in range(len(x)):
        outputs = model(x[i : i + 1])[0]
        rows = [torch.autograd.grad(out, parameters, retain_graph=True) for out in outputs]
        jacobian = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        p = outputs.detach().softmax(0)
        gradients.append((p - F.one_hot(y[i], 3)) @ jacobian)
        total = total + jacobian.T @ (p.diag() - torch.outer(p, p)) @ jacobian / len(x)
    g = torch.stack(gradients)
    matrix = total + (0.1 + 1.0) * torch.eye(objective.p, dtype=DOUBLE)
    for inverse in (uw.inverse.Dense(uw.curvature.GGN(), damping=1.0), uw.inverse.Dual(damping=1.0)):
        found = uw.Influence(objective, inverse).attribute((x[:2], y[:2])).scores
        close(found, g[:2] @ torch.linalg.solve(matrix, g.T) / len(x), rtol=1e-7, atol=1e-10)
