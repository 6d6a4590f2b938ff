"""An objective is what was handed in when it was made: what becomes of the model afterwards changes nothing."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close, convex, mlp
from upweight import curvature, inverse


def normed() -> nn.Module:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).to(DOUBLE)
    model(torch.randn(20, 4, dtype=DOUBLE))  # moves the running statistics
    return model.eval()


def examples() -> tuple[Tensor, Tensor]:
    return torch.randn(12, 4, dtype=DOUBLE), torch.arange(12) % 3


def trained_on(model: nn.Module) -> None:
    """Everything that may become of a model: training on, other modes, other buffers, hooks."""
    with torch.no_grad():
        for value in model.parameters():
            value += 1
        for value in model.buffers():
            value += 1
    model.train()
    for value in model.parameters():
        value.requires_grad_(False)
    model.register_forward_hook(lambda *_: pytest.fail("the user's model was run"))


@pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")
@pytest.mark.parametrize("parameters", [None, ["3.*"], "subset"])
def test_what_becomes_of_the_model_changes_nothing(parameters: Any) -> None:
    model, (x, y) = normed(), examples()
    kept = copy.deepcopy(model)
    chosen: Any = uw.select.highest_output(0.5) if parameters == "subset" else parameters

    def made(of: nn.Module) -> uw.Objective:
        return uw.Objective(of, uw.losses.CrossEntropy(), (x, y), l2=0.1, parameters=chosen)

    objective, expected = made(model), made(kept)
    trained_on(model)
    close(objective.losses(), expected.losses())
    close(objective.outputs(), expected.outputs())
    close(objective.gradient(), expected.gradient())
    for other in (objective, objective.replace(l2=0.2), objective.to(torch.float32), objective.at(objective.params)):
        reference = expected.replace(l2=0.2) if other is not objective and other.l2.max() > 0.15 else expected
        found = uw.Influence(other, inverse.Dense(curvature.GGN(), damping=0.1)).attribute((x[:2], y[:2])).scores
        wanted = uw.Influence(reference, inverse.Dense(curvature.GGN(), damping=0.1)).attribute((x[:2], y[:2])).scores
        close(found, wanted.to(found), rtol=1e-4 if other.dtype == torch.float32 else 1e-9, atol=1e-6)
    assert float(expected.losses().mean()) == pytest.approx(float(nn.functional.cross_entropy(kept(x), y)))


def test_the_model_is_copied_once_and_shared_by_what_comes_of_the_objective() -> None:
    problem = convex("softmax")
    objective = problem.objective()
    assert objective.model is not problem.model
    assert objective.replace(l2=1.0).model is objective.model
    assert objective.replace(data=(problem.x[:5], problem.y[:5])).model is objective.model
    assert objective.at(objective.params).model is not objective.model


def test_an_objective_does_not_change() -> None:
    objective = convex("ridge").objective()
    with pytest.raises(AttributeError, match=r"objective\.replace\(loss=…\)"):
        objective.loss = uw.losses.SquaredError()  # type: ignore[misc]


class Locked(nn.Module):
    """Holds what can't be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.generator = nn.Linear(4, 3), (number for number in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def test_a_model_that_cannot_be_copied_is_refused_with_the_reason() -> None:
    with pytest.raises(uw.InputError, match=r"model: it is copied.* can't be: TypeError.*generator"):
        uw.Objective(Locked(), uw.losses.CrossEntropy(), (torch.randn(6, 4), torch.arange(6) % 3))


GGN, FISHER = curvature.GGN(), curvature.EmpiricalFisher()
INVERSES: dict[str, Any] = {
    "chosen": None,
    "dense": inverse.Dense(GGN, damping=0.1),
    "dual": inverse.Dual(damping=0.1),
    "cg": inverse.CG(GGN, damping=0.1),
    "preconditioned": inverse.CG(GGN, damping=0.1, preconditioner=inverse.EKFAC()),
    "kfac": inverse.KFAC(FISHER, damping=0.1),
    "ekfac": inverse.EKFAC(FISHER, damping=0.1),
    "lissa": inverse.LiSSA(GGN, damping=1.0),
    "lsmr": inverse.LSMR(GGN, damping=0.1),
    "nystrom": inverse.Nystrom(6, damping=0.1),
    "arnoldi": inverse.Arnoldi(6, damping=0.1),
    "diagonal": inverse.Diagonal(FISHER, damping=0.1),
    "datainf": inverse.DataInf(damping=0.1),
    "identity": inverse.Identity(),
}


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
@pytest.mark.parametrize("name", INVERSES)
def test_pickled_it_gives_equal_scores(name: str) -> None:
    problem = mlp()
    influence = uw.Influence(problem.objective(), INVERSES[name])
    early = pickle.loads(pickle.dumps(influence))  # before anything was fitted
    scores = influence.attribute(problem.queries).scores
    late = pickle.loads(pickle.dumps(influence))
    assert "solver" in late.__dict__  # what was fitted is not fitted again
    for other in (early, late):
        assert torch.equal(other.attribute(problem.queries).scores, scores)


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
@pytest.mark.parametrize("name", ["TRAK", "TRAK of the loss", "TRAK of models", "TracIn", "ensemble"])
def test_so_do_attributions_beside_influence(name: str) -> None:
    objective, queries = mlp().objective(), mlp().queries
    models = [objective.params, objective.params * 1.1]
    makers = {
        "TRAK": lambda: uw.TRAK(objective, dimension=8),
        "TRAK of the loss": lambda: uw.TRAK(objective, dimension=8, measurement="loss"),
        "TRAK of models": lambda: uw.TRAK(objective, models, dimension=8),
        "TracIn": lambda: uw.TracIn(objective, models, 0.1),
        "ensemble": lambda: uw.Ensemble(objective, models, inverse.EKFAC(FISHER, damping=0.1)),
    }
    attributor = makers[name]()
    early = pickle.loads(pickle.dumps(attributor))
    scores = attributor.attribute(queries).scores
    late = pickle.loads(pickle.dumps(attributor))
    for other in (early, late):
        assert torch.equal(other.attribute(queries).scores, scores)


def test_making_an_influence_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = mlp().objective()
    monkeypatch.setattr(type(objective.model), "forward", lambda *_: pytest.fail("a pass was made"))
    for given in INVERSES.values():
        repr(uw.Influence(objective, given))
