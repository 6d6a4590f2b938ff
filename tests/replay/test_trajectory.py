"""States kept at √T, in a store, over kills: always the same scores, bit by bit."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from replays import QUERIES, N, declared, network
from upweight.errors import DamagedFileWarning, InputError
from upweight.replay import trajectory
from upweight.replay.run import Run
from upweight.store import Memory

SMALL = uw.Budget(kept=0)
"""So that not every state can be kept."""


def scores(replay: uw.Replay, queries: Any = QUERIES, **options: Any) -> Tensor:
    return replay.attribute(queries, smoothness=False, **options).scores


def test_states_at_the_root_of_the_steps_give_the_same_bits_as_all_states() -> None:
    all_kept, at_root = declared(), declared(budget=SMALL)
    assert all_kept.plan().sizes.every == 1
    assert at_root.plan().sizes.every == 3
    assert torch.equal(scores(all_kept), scores(at_root))


def test_the_spacing_holds_two_roots_of_states() -> None:
    for steps in (1, 2, 9, 10, 300, 301):
        every = trajectory.spacing(steps, 8, 0)
        kept = -(-steps // every) + 1
        assert every + kept <= 2 * steps**0.5 + 3
    assert trajectory.spacing(300, 8, 301 * 8) == 1
    assert trajectory.spacing(300, 8, 300 * 8) == 18


def test_queries_together_are_queries_one_at_a_time() -> None:
    together = scores(declared())
    alone = torch.cat([scores(declared(), tuple(part[k : k + 1] for part in QUERIES)) for k in range(len(QUERIES[0]))])
    in_blocks = scores(declared(budget=uw.Budget(queries=2 * 2 * 31 * 8)))
    in_chunks = scores(declared(budget=uw.Budget(memory=1 << 14)))
    assert declared(budget=uw.Budget(queries=2 * 2 * 31 * 8)).plan(4).sizes.block == 2
    assert declared(budget=uw.Budget(memory=1 << 14)).plan(4).sizes.chunk < 4
    for other in (alone, in_blocks, in_chunks):
        torch.testing.assert_close(other, together, rtol=1e-11, atol=1e-14)


class Killed(BaseException):
    """As a kill: no handler of the package takes it."""


@pytest.mark.parametrize("at", [4, 9, 11, 16, 21])
def test_a_killed_replay_goes_on_to_the_same_bits(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, place = scores(declared(budget=SMALL)), Memory()
    calls = []

    def counted(method: Callable[..., Any], limit: int) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == limit:
                raise Killed
            return method(*arguments)

        return call

    step, pull = Run.step, Run.pull_
    replay = declared(budget=SMALL, store=place)
    plan = replay._work.plan(4, 1, 0)
    monkeypatch.setattr(type(replay._work), "plan", lambda *_, **__: plan)  # which times steps
    monkeypatch.setattr(Run, "step", counted(step, at))
    monkeypatch.setattr(Run, "pull_", counted(pull, at))
    with pytest.raises(Killed):
        scores(replay)
    calls.clear()
    monkeypatch.setattr(Run, "step", counted(step, 0))
    monkeypatch.setattr(Run, "pull_", counted(pull, 0))
    assert torch.equal(scores(declared(budget=SMALL, store=place)), expected)
    assert len(calls) < 9 + 9 + 9  # steps, steps again, steps in reverse
    calls.clear()
    assert torch.equal(scores(declared(budget=SMALL, store=place)), expected)
    assert not calls


def test_other_seeds_weights_queries_and_measurements_share_a_store() -> None:
    place = Memory()
    for options in ({}, {"weight": 0.5}, {"seeds": [7]}, {"measurement": "margin"}, {"train": [3, 4]}):
        expected = scores(declared(budget=SMALL), **options)
        assert torch.equal(scores(declared(budget=SMALL, store=place), **options), expected)
    other = tuple(part[:2] for part in QUERIES)
    assert scores(declared(budget=SMALL, store=place), other).shape == (2, N)


def test_a_store_of_another_training_is_refused_by_what_differs(tmp_path: Path) -> None:
    scores(declared(store=tmp_path / "run"))
    torch.manual_seed(9)
    others = {
        "model": declared(model=network(nn.Tanh), store=tmp_path / "run"),
        "optimizer": declared(uw.replay.SGD(0.1), store=tmp_path / "run"),
        "batch_size": declared(batch_size=4, store=tmp_path / "run"),
        "clip": declared(clip=1.0, store=tmp_path / "run"),
        "rates": declared(schedule="one-cycle", store=tmp_path / "run"),
        "data": uw.Replay(
            network(),
            uw.losses.CrossEntropy(),
            (torch.ones(N, 3, dtype=torch.float64), torch.zeros(N, dtype=torch.long)),
            optimizer=uw.replay.SGD(0.2, momentum=0.8),
            epochs=3,
            batch_size=8,
            store=tmp_path / "run",
        ),
    }
    for name, other in others.items():
        with pytest.raises(InputError, match=rf"store: .* begun with {name}="):
            scores(other)
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_text("somebody's")
    with pytest.raises(InputError, match="holds 'file'"):
        scores(declared(store=tmp_path / "else"))


def test_a_damaged_state_is_named_and_its_steps_taken_again(tmp_path: Path) -> None:
    expected = scores(declared(budget=SMALL, store=tmp_path))
    for block in (tmp_path / "blocks").iterdir():
        if block.name.startswith("reverse") or block.name.endswith("9"):
            block.write_bytes(block.read_bytes()[:-1])
    with pytest.warns(DamagedFileWarning):
        again = scores(declared(budget=SMALL, store=tmp_path))
    assert torch.equal(again, expected)


class Drawing(nn.Module):
    """Draws from a generator that no seed of torch's reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random(0)

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.random.random()) if self.training else x


def test_a_training_that_is_not_the_same_twice_is_refused_with_the_difference() -> None:
    with pytest.raises(InputError, match=r"isn't the same twice.*steps 7 to 9.*\d from where"):
        scores(declared(model=network(nn.GELU, Drawing()), budget=SMALL))


def test_a_training_that_diverges_is_refused() -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        scores(declared(uw.replay.SGD(1e200)))


def test_a_trajectory_without_room_is_refused_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from upweight.replay import plan

    monkeypatch.setattr(plan, "installed", lambda: 1000)
    with pytest.raises(InputError, match=r"state every 1 holds .* this machine has"):
        scores(declared())
    monkeypatch.undo()
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: SimpleNamespace(free=5))
    with pytest.raises(InputError, match=r"store: .*√T of 9 steps needs"):
        scores(declared(store=tmp_path))
    assert not list(tmp_path.iterdir())
