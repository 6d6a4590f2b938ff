"""Own effects of training examples: margins, self-influence and leverage from one number each, against the long way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import problems
import upweight as uw
from upweight import retraining
from upweight.errors import InputError
from upweight.influence import Influence
from upweight.tasks.own_effects import MOST_LEVERAGE, LeverageWarning, OwnEffects, own_effects


def classifier(kind: str) -> uw.Objective:
    return problems.mlp().objective() if kind == "mlp" else problems.convex(kind).objective()


def losses_without(own: OwnEffects) -> torch.Tensor:
    objective = own.influence.objective
    batch = objective.data.take(range(objective.n))
    assert isinstance(objective.loss, uw.losses.Loss)
    return objective.loss.of_outputs(own.outputs_without, batch) - objective.losses()


@pytest.mark.parametrize("kind", ["logistic", "softmax", "mlp"])
def test_self_influence_follows_from_the_margin(kind: str) -> None:
    influence = Influence(classifier(kind), uw.inverse.Dense(uw.curvature.GGN(), damping=1e-3))
    own = own_effects(influence)
    torch.testing.assert_close(own.self_influence, influence.self_influence().scores, rtol=1e-8, atol=1e-12)
    if kind == "logistic":
        exact = influence.self_influence(leverage_corrected=True).scores
        torch.testing.assert_close(losses_without(own), exact, rtol=1e-8, atol=1e-12)
        # The score of label errors has the part of it that is linear in the step: both vanish alike.
        assert (own.leverage_corrected <= exact).all()
    everything = influence.objective.data.take(range(influence.objective.n))
    falls = -influence.attribute(everything, measurement="margin").scores.diagonal()
    torch.testing.assert_close(own.margin_falls, falls, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["logistic", "softmax", "mlp"])
def test_pairs_and_solves_agree(kind: str) -> None:
    objective = classifier(kind)
    by_pairs = own_effects(Influence(objective, uw.inverse.Dual(uw.curvature.GGN(), damping=1e-3, rows=None)))
    by_solving = own_effects(Influence(objective, uw.inverse.Dense(uw.curvature.GGN(), damping=1e-3)))
    for name in ("pulls", "margins_without", "moves"):
        torch.testing.assert_close(getattr(by_pairs, name), getattr(by_solving, name), rtol=1e-6, atol=1e-10)


def small(classes: int) -> uw.Objective:
    """Few examples for the parameters, so that leverages are large."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 6, generator=generator, dtype=torch.float64), torch.arange(40) % classes
    x[torch.arange(40), y] += 1.5
    y[::7] = (y[::7] + 1) % classes
    loss = uw.losses.BinaryLogistic() if classes == 2 else uw.losses.CrossEntropy()
    model = nn.Linear(6, 1 if classes == 2 else classes, dtype=torch.float64)
    return retraining.fit(uw.Objective(model, loss, (x, y), l2=0.01))


@pytest.mark.parametrize("classes", [2, 4])
def test_margins_without_are_those_of_retraining(classes: int) -> None:
    objective = small(classes)
    own = own_effects(Influence(objective))
    assert float(own.leverages.max()) > 0.25
    some = list(range(0, 40, 3))
    models = retraining.leave_out(objective, some)
    influence = Influence(objective)
    pairs = zip(some, models.params, strict=True)
    actual = torch.stack([influence.measure(objective.data.take([i]), "margin", theta)[0] for i, theta in pairs])
    first_order = own.margins - own.margin_falls
    now, linear, newton = (
        float((predicted[some] - actual).norm()) for predicted in (own.margins, first_order, own.margins_without)
    )
    assert newton < 0.6 * linear < 0.6 * now


@pytest.mark.parametrize("kind", ["logistic", "softmax"])
def test_outputs_without_have_those_margins(kind: str) -> None:
    objective = classifier(kind)
    own = own_effects(Influence(objective))
    batch = objective.data.take(range(objective.n))
    margin = uw.measurements.Margin().bind(objective.loss)
    torch.testing.assert_close(margin.of_outputs(own.outputs_without, batch), own.margins_without)


def test_weights_pull_on_the_parameters_but_not_on_the_loss_seen() -> None:
    objective = problems.convex("logistic").objective()
    weights = torch.linspace(0.5, 2, objective.n, dtype=torch.float64)
    weighted = retraining.fit(objective.replace(weights=weights))
    influence = Influence(weighted)
    own = own_effects(influence)
    torch.testing.assert_close(own.self_influence, influence.self_influence().scores, rtol=1e-8, atol=1e-12)
    exact = influence.self_influence(leverage_corrected=True).scores
    torch.testing.assert_close(losses_without(own), exact, rtol=1e-8, atol=1e-12)


def test_a_hinge_of_one_output_has_a_margin() -> None:
    objective = problems.convex("logistic").objective()
    smooth = retraining.fit(objective.replace(loss=uw.losses.SmoothHinge(0.5)))
    influence = Influence(smooth)
    own = own_effects(influence)
    torch.testing.assert_close(own.self_influence, influence.self_influence().scores, rtol=1e-6, atol=1e-10)


@pytest.mark.filterwarnings("ignore:θ is not at an optimum")
def test_leverage_is_bounded_where_the_curvature_is_too_small() -> None:
    objective = small(4)
    x, y = objective.data.take(range(40))
    own = own_effects(Influence(objective.replace(data=(30 * x, y)), uw.inverse.Identity()))
    with pytest.warns(LeverageWarning, match="hold more of the curvature than there is"):
        assert float(own.leverages.max()) == MOST_LEVERAGE
    assert torch.isfinite(own.margins_without).all()


def test_one_against_the_rest_has_no_single_margin() -> None:
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3
    objective = uw.Objective(nn.Linear(4, 3).double(), uw.losses.BinaryLogistic(), (x, y), l2=0.1)
    with pytest.raises(InputError, match="not a function of one margin"):
        own_effects(Influence(retraining.fit(objective)))
