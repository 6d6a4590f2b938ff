"""What `Replay` gives, means, and refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import upweight as uw
from replays import DOUBLE, QUERIES, N, declared, examples, finite_differences, network, query_losses, theta
from upweight.errors import InputError, UpweightWarning
from upweight.replay import plan


def test_removal_is_minus_the_derivative_and_near_the_change_of_a_training_without_it() -> None:
    replay = declared(uw.replay.SGD(0.1, momentum=0.8))
    removal, derivative = replay.attribute(QUERIES), replay.attribute(QUERIES, quantity="weight", smoothness=False)
    assert torch.equal(removal.scores, -derivative.scores)
    assert removal.quantity.helpful_sign == 1
    assert derivative.quantity.helpful_sign == -1
    assert removal.quantity.name == "removal by replay"
    before, changes = query_losses(replay.train()), []
    for example in range(5):
        weights = torch.ones(N)
        weights[example] = 0
        changes.append(query_losses(replay.train(weights)) - before)
    found = uw.evaluation.agreement(removal.scores[:, :5], torch.stack(changes, 1))
    assert found.pearson > 0.98
    assert 0.7 < found.slope < 1.3


def test_at_another_weight_it_is_the_derivative_there() -> None:
    replay = declared()
    found = replay.attribute(QUERIES, quantity="weight", weight=0.5, smoothness=False)
    expected = finite_differences(replay, [2, 11], at=0.5)
    assert float((found.scores[:, [2, 11]] - expected).abs().max()) < 1e-6 * float(expected.abs().max())
    assert found.facts["weight"] == 0.5
    assert "every weight times 0.5" in found.quantity.words


def test_weights_that_were_declared_multiply() -> None:
    weights = torch.linspace(0.5, 2, N, dtype=DOUBLE)
    replay = declared(weights=weights)
    found = replay.attribute(QUERIES, quantity="weight", smoothness=False).scores[:, [2, 11]]
    expected = finite_differences(replay, [2, 11])
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())
    assert torch.equal(theta(replay.train()), theta(declared().train(weights)))


def test_seeds_are_averaged_and_a_function_makes_the_model_of_each() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3)).double()

    replay = declared(model=build)
    both = replay.attribute(QUERIES, seeds=(3, 4), smoothness=False)
    single = [replay.attribute(QUERIES, seeds=[seed], smoothness=False).scores for seed in (3, 4)]
    torch.testing.assert_close(both.scores, sum(single) / 2)
    assert both.facts["seeds"] == 2
    assert float((single[0] - single[1]).abs().max()) > 1e-4
    torch.manual_seed(4)
    assert torch.equal(theta(replay.train(seed=4)), theta(declared(model=build(), seed=4).train()))


def test_batches_that_were_recorded_are_the_order() -> None:
    order = declared().declared.order.of(N, 1)
    given = declared(batches=[batch.numpy() for batch in order], epochs=None, batch_size=None, seed=99)
    assert torch.equal(theta(given.train()), theta(declared().train()))


@pytest.mark.parametrize(
    "measurement", ["margin", "log-probability", lambda model, batch: model(batch[0]).square().sum(1)]
)
def test_measurements_and_chosen_examples(measurement: Any) -> None:
    replay = declared(ids=[f"e{k}" for k in range(N)])
    found = replay.attribute(QUERIES, measurement, train=["e3", "e5"], query_ids=["a", "b", "c", "d"], smoothness=False)
    everything = replay.attribute(QUERIES, measurement, smoothness=False)
    assert torch.equal(found.scores, everything.scores[:, [3, 5]])
    assert found.ids.tolist() == ["e3", "e5"]
    assert found.query_ids.tolist() == ["a", "b", "c", "d"]
    assert everything.quantity.helpful_sign == {"margin": -1, "log-probability": -1}.get(measurement, 0)


def test_part_of_the_parameters_is_trained() -> None:
    model = network()
    replay = declared(model=model, parameters=model[2])
    trained = replay.train()
    assert torch.equal(trained[0].weight, model[0].weight)
    found = replay.attribute(QUERIES, quantity="weight", smoothness=False).scores[:, [1]]
    expected = finite_differences(replay, [1])
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())


def test_float32_and_a_dataset_of_examples() -> None:
    x, y = examples()
    pairs = [(x[k].float(), int(y[k])) for k in range(N)]
    queries = [(QUERIES[0][k].float(), int(QUERIES[1][k])) for k in range(4)]
    single = uw.Replay(
        network().float(),
        uw.losses.CrossEntropy(),
        pairs,
        optimizer=uw.replay.SGD(0.2, momentum=0.8),
        epochs=3,
        batch_size=8,
        seed=1,
    ).attribute(queries, smoothness=False)
    assert single.scores.dtype == torch.float32
    double = declared().attribute(QUERIES, smoothness=False)
    torch.testing.assert_close(single.scores.double(), double.scores, rtol=1e-3, atol=1e-6)


def test_the_trained_objective_is_influence_s() -> None:
    replay = declared(uw.replay.SGD(0.2, momentum=0.8, weight_decay=0.03))
    objective = replay.objective(0.5)
    assert torch.equal(objective.params, theta(replay.train(0.5)))
    assert objective.l2.unique().tolist() == [0.03]
    assert objective.weights.unique().tolist() == [0.5]
    assert not declared(uw.replay.AdamW(0.1)).objective().l2.any()


def test_the_user_s_model_and_random_states_are_left_alone() -> None:
    model = network(nn.GELU, nn.Dropout(0.5))
    before, state = theta(model).clone(), torch.get_rng_state()
    declared(model=model).attribute(QUERIES)
    assert torch.equal(theta(model), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(value.grad is None for value in model.parameters())


def test_what_a_replay_takes_is_said_before() -> None:
    found = declared(budget=uw.Budget(kept=0)).plan(queries=10, seeds=2)
    assert found.trainings == 2 * (1 + 1) + 2
    assert found.seconds == pytest.approx(found.trainings * 9 * found.step_seconds + 2 * 10 * 9 * found.reverse_seconds)
    assert "reverse passes of queries" in str(found)
    assert found.disk == 0


def test_long_work_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LONG", 0.0)
    with pytest.warns(UpweightWarning, match=r"about .* of work ahead .* 4 queries"):
        declared().attribute(QUERIES, smoothness=False)


REFUSED = {
    "a trained function": (lambda: declared(model=lambda indices, seed: network()), "model: .*weights to replay.train"),
    "no model": (lambda: declared(model=3), "model: give the untrained"),
    "another optimiser": (
        lambda: declared(torch.optim.RMSprop(network().parameters())),
        "optimizer: RMSprop has no rule.*replay.AdamW",
    ),
    "groups of rates": (
        lambda: _grouped(),
        r"optimizer: its groups have different lr \(0.1 and 0.2\)",
    ),
    "a running mean": (
        lambda: declared(model=network(nn.GELU, nn.BatchNorm1d(4))),
        "buffer '2.*running_mean'",
    ),
    "16 bits": (lambda: declared(model=network().bfloat16()), "model: it is in torch.bfloat16"),
    "both orders": (lambda: declared(batches=[[0]]), "batches: they say"),
    "positions": (lambda: declared(batches=[[0, N]], epochs=None, batch_size=None), r"batches\[0\]: positions"),
    "no steps": (lambda: declared(batch_size=2 * N, drop_last=True), "drop_last: no batch"),
    "rates": (lambda: declared(schedule=[0.1]), "schedule: give a learning rate ≥ 0 for each of 9 steps"),
    "a schedule": (lambda: declared(schedule="cosine"), "schedule: give 'constant'"),
    "nesterov": (lambda: uw.replay.SGD(0.1, nesterov=True), "nesterov: needs a momentum"),
    "weights": (lambda: declared().train([1.0, 2.0]), "weights: need 20"),
    "seeds": (lambda: declared().attribute(QUERIES, seeds=[1, 1]), "seeds: one stands twice"),
    "a cut-off measurement": (
        lambda: declared().attribute(QUERIES, lambda model, batch: model(batch[0]).detach().sum(1)),
        "measurement: its values are cut off",
    ),
    "a count": (
        lambda: declared().attribute(QUERIES, lambda model, batch: (model(batch[0]).argmax(1) == batch[1]).double()),
        "measurement: its values are cut off",
    ),
}


def _grouped() -> uw.Replay:
    model = network()
    groups: list[dict[str, Any]] = [
        {"params": model[0].parameters(), "lr": 0.1},
        {"params": model[2].parameters(), "lr": 0.2},
    ]
    return declared(torch.optim.SGD(groups, lr=0.1), model)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        call()


def test_batch_norm_in_eval_mode_is_a_fixed_map() -> None:
    norm = nn.BatchNorm1d(4).double().eval()
    replay = declared(model=network(nn.GELU, norm))
    found = replay.attribute(QUERIES, quantity="weight", smoothness=False).scores[:, [1]]
    expected = finite_differences(replay, [1])
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())


class Scaled(nn.Module):
    """A parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


def test_a_parameter_without_dimensions_is_one_too() -> None:
    replay = declared(model=network(nn.Tanh, Scaled()), clip=0.5)
    found = replay.attribute(QUERIES, quantity="weight", smoothness=False).scores[:, [1]]
    expected = finite_differences(replay, [1])
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    model[2].weight = model[0].weight
    return model


def test_tied_parameters_are_one() -> None:
    replay = declared(model=tied())
    found = replay.attribute(QUERIES, quantity="weight", smoothness=False).scores[:, [1]]
    expected = finite_differences(replay, [1])
    assert float((found - expected).abs().max()) < 1e-6 * float(expected.abs().max())
