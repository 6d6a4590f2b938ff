"""A recorded training gives scores through it what they need."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn, optim

import upweight as uw
from upweight.store import Memory


def train(place: object, name: str = "adam", steps: int = 10, every: int = 4) -> tuple[uw.Objective, list[dict]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    x, y = torch.randn(20, 4), torch.randint(3, (20,))
    optimizer = optim.AdamW(model.parameters(), lr=0.01) if name == "adam" else optim.SGD(model.parameters(), lr=0.1)
    schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    kept = []
    with uw.Recorder(place, model, optimizer, every=every) as recorder:  # type: ignore[arg-type]
        for step in range(steps):
            chosen = torch.arange(5) + 5 * (step % 4)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            rate = optimizer.param_groups[0]["lr"]
            optimizer.step()
            recorder.step(chosen)
            if (step + 1) % every == 0 or step + 1 == steps:
                state = {key: value.clone() for key, value in model.state_dict().items()}
                kept.append({"state": state, "metric": uw.step_metric(optimizer, model), "rate": rate})
            schedule.step()
    return uw.Objective(model, uw.losses.CrossEntropy(), (x, y)), kept


@pytest.mark.filterwarnings("ignore::upweight.NotStationaryWarning")
@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_what_was_recorded_is_what_was_trained(tmp_path: Path, name: str) -> None:
    objective, kept = train(tmp_path / "run", name)
    run = uw.Recording.open(tmp_path / "run")
    assert run.steps == [4, 8, 10]
    assert len(run) == 3
    for found, expected in zip(run.checkpoints, kept, strict=True):
        assert all(torch.equal(found[key], expected["state"][key]) for key in expected["state"])
    first = 0.01 if name == "adam" else 0.1
    rates = [first * 0.9**step for step in range(10)]
    assert run.learning_rates(20) == pytest.approx([sum(rates[:4]) / 20, sum(rates[4:8]) / 20, sum(rates[8:]) / 20])
    assert run.rates == pytest.approx(rates)
    assert [step.tolist() for step in run.order[:5]] == [[5 * (s % 4) + k for k in range(5)] for s in range(5)]
    if name == "adam":
        assert run.metrics is not None
        for found, expected in zip(run.metrics, kept, strict=True):
            for key, value in expected["metric"].items():
                torch.testing.assert_close(found[key].double(), value, rtol=0.004, atol=0)
    else:
        assert run.metrics is None
    tracin = uw.TracIn(objective, run.checkpoints, run.learning_rates(objective.n), metrics=run.metrics)
    assert tracin.attribute(objective.data.take([0, 1])).scores.shape == (2, 20)
    size = sum(path.stat().st_size for path in (tmp_path / "run" / "blocks").iterdir())
    assert size < 3 * (objective.p * 6 + 2500)


def test_a_recording_is_gone_on_with() -> None:
    place = Memory()
    train(place, steps=6)
    train(place, steps=6)
    assert uw.Recording.open(place).steps == [4, 6, 8, 12]


def test_what_is_none_is_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(uw.InputError, match="holds no recording"):
        uw.Recording.open(tmp_path)
    (tmp_path / "mine").write_text("x")
    with pytest.raises(uw.InputError, match="something else"):
        uw.Recorder(tmp_path, model, optimizer)
    for arguments, word in (((3, optimizer), "model"), ((model, 3), "optimizer")):
        with pytest.raises(uw.InputError, match=word):
            uw.Recorder(Memory(), *arguments)  # type: ignore[arg-type]
    for options, word in (({"every": 0}, "every"), ({"moments": "int8"}, "moments")):
        with pytest.raises(uw.InputError, match=word):
            uw.Recorder(Memory(), model, optimizer, **options)  # type: ignore[arg-type]
