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
    for options, word in (
        ({"every": 0}, "every"),
        ({"moments": "int8"}, "moments"),
        ({"frozen": "no"}, "frozen"),
        ({"start": -1}, "start"),
    ):
        with pytest.raises(uw.InputError, match=word):
            uw.Recorder(Memory(), model, optimizer, **options)  # type: ignore[arg-type]
    with pytest.raises(uw.InputError, match="none of its parameters belongs to the model"):
        uw.Recorder(Memory(), nn.Linear(2, 1), optimizer)
    with pytest.raises(uw.InputError, match=r"only Adam, AdamW"):
        uw.Recorder(Memory(), model, optim.Adagrad(model.parameters()))
    uw.Recorder(Memory(), model, optim.Adagrad(model.parameters()), moments=None)
    recorder = uw.Recorder(Memory(), model, optimizer)
    with pytest.raises(uw.InputError, match="no step was taken"):
        recorder.keep()
    for wrong in ([-1], [0.5], torch.tensor([True])):
        with pytest.raises(uw.InputError, match="examples: give positions"):
            recorder.step(wrong)  # type: ignore[arg-type]
    with pytest.raises(uw.InputError, match=r"rate: one for each of the optimiser's 1 groups; got 2"):
        recorder.step(rate=[0.1, 0.1])
    with pytest.raises(uw.InputError, match="rate: give a finite number"):
        recorder.step(rate=-1.0)


def small(place: object, **options: object) -> tuple[nn.Module, optim.Optimizer, uw.Recorder]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    optimizer = optim.Adam(model[1].parameters(), lr=0.1)
    return model, optimizer, uw.Recorder(place, model, optimizer, **options)  # type: ignore[arg-type]


def steps(
    model: nn.Module, optimizer: optim.Optimizer, recorder: uw.Recorder, numbers: range, rate: float = 0.1
) -> None:
    for number in numbers:
        optimizer.zero_grad()
        (model(torch.tensor([[1.0, number]])) ** 2).sum().backward()
        optimizer.step()
        recorder.step([number], rate=rate)


def test_what_is_taken_again_is_recorded_again() -> None:
    place = Memory()
    model, optimizer, recorder = small(place, every=3)
    steps(model, optimizer, recorder, range(4))
    recorder.flush()  # a checkpoint of the training's own, after 4 steps
    steps(model, optimizer, recorder, range(4, 8))
    model, optimizer, recorder = small(place, every=3, start=4)
    assert uw.Recording.open(place).steps == [3]
    steps(model, optimizer, recorder, range(4, 7), rate=0.2)
    run = uw.Recording.open(place)
    assert run.steps == [3, 6]
    assert run.rates.tolist() == [0.1] * 4 + [0.2] * 2
    assert [step.tolist() for step in run.order] == [[number] for number in range(6)]
    for start, words in (
        (0, "holds a recording of 6 steps, and this training begins at none"),
        (9, r"holds steps 1 to 6"),
    ):
        with pytest.raises(uw.InputError, match=words):
            small(place, start=start)
    # What is left unsaid goes on from the last checkpoint; where nothing but a log is there, from the beginning.
    assert small(place, every=3)[2].steps == 6
    _, _, begun = small(Memory(), every=3, start=100)
    assert begun.steps == 100


def test_what_is_frozen_is_kept_once_and_what_was_changed_all_the_same_again() -> None:
    place = Memory()
    model, optimizer, recorder = small(place, every=1)
    states = []
    for number in range(4):
        if number == 2:
            with torch.no_grad():
                model[0].weight.add_(1)  # type: ignore[index, union-attr]
        steps(model, optimizer, recorder, range(number, number + 1))
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    run = uw.Recording.open(place)
    assert all(
        torch.equal(one[key], other[key]) for one, other in zip(run.checkpoints, states, strict=True) for key in other
    )
    assert run.blocks.names("once-") == ["once-0000000001", "once-0000000003"]
    model, optimizer, recorder = small(place, every=1, start=4)
    model.load_state_dict(states[-1])
    steps(model, optimizer, recorder, range(1))
    assert len(run.blocks.names("once-")) == 2  # told by its checksum, in another process too
    bare = Memory()
    model, optimizer, recorder = small(bare, every=1, frozen=False)
    steps(model, optimizer, recorder, range(1))
    assert uw.Recording.open(bare).checkpoints[0].keys() == {"1.weight", "1.bias"}


def test_tied_parameters_are_kept_as_one() -> None:
    place = Memory()
    model = nn.Sequential(nn.Linear(40, 40, bias=False), nn.Linear(40, 40, bias=False))
    model[1].weight = model[0].weight
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with uw.Recorder(place, model, optimizer) as recorder:
        steps_of(model, optimizer, recorder)
    run = uw.Recording.open(place)
    (found,) = run.checkpoints
    assert torch.equal(found["0.weight"], model[0].weight)
    assert torch.equal(found["1.weight"], model[0].weight)
    assert len(run.blocks.content(run.names[0])) < 1.5 * 40 * 40 * 4


def steps_of(model: nn.Module, optimizer: optim.Optimizer, recorder: uw.Recorder) -> None:
    model(torch.ones(1, 40)).sum().backward()
    optimizer.step()
    recorder.step()


def test_scores_that_need_what_was_not_recorded_are_refused_by_name() -> None:
    place = Memory()
    model, optimizer, recorder = small(place, every=1, moments=None)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    recorder.step()
    run = uw.Recording.open(place)
    objective = uw.Objective(
        model, uw.losses.CrossEntropy(), (torch.ones(3, 2), torch.arange(3) % 2), parameters=["1.weight"]
    )
    with pytest.raises(
        uw.InputError, match=r"metrics: the recording in memory has no state of its optimiser \(moments=N"
    ):
        uw.TracIn.from_recording(objective, run)
    with pytest.raises(
        uw.InputError, match=r"order: the examples of step 1 weren't recorded; the order of a shuffled lo"
    ):
        run.example_rates(3)
    place = Memory()
    model, optimizer, recorder = small(place, every=1)
    steps(model, optimizer, recorder, range(5, 6))
    with pytest.raises(uw.InputError, match=r"examples: the recording has met the example at 5, and 3 were given"):
        uw.TracIn.from_recording(objective, uw.Recording.open(place), by_example=True)
    still = Memory()
    model, optimizer, recorder = small(still, every=1)
    steps(model, optimizer, recorder, range(1), rate=0.0)
    with pytest.raises(uw.InputError, match="recording: all of its learning rates are 0"):
        uw.TracIn.from_recording(objective, uw.Recording.open(still))


def test_a_group_that_does_not_move_adds_nothing_to_scores() -> None:
    place = Memory()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    optimizer = optim.SGD([{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1].parameters()}], lr=0.5)
    x, y = torch.randn(6, 2), torch.arange(6) % 2
    with uw.Recorder(place, model, optimizer) as recorder:
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        recorder.step(range(6))
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y))
    found = uw.TracIn.from_recording(objective, uw.Recording.open(place)).attribute((x[:2], y[:2])).scores
    part = uw.Objective(model, uw.losses.CrossEntropy(), (x, y), parameters=["1.weight", "1.bias"])
    expected = uw.TracIn(part, [model], 0.5 / 6).attribute((x[:2], y[:2])).scores
    torch.testing.assert_close(found, expected)
