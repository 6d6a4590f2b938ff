"""Figure 5: portions of attacks that go on where they were cut off, and views of one photo."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments.koh_liang import fig5_attack, fig5_together
from experiments.koh_liang.views import KEPT, views


@dataclass
class Attacked:
    """What `in_portions` looks at."""

    targets: torch.Tensor
    flipped: torch.Tensor


def test_portions_go_on_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fig5_attack, "PORTION", 2)
    monkeypatch.setattr(fig5_attack, "code", lambda: "commit one")
    order, asked = torch.tensor([5, 3, 1, 4, 2]), []

    def attack(targets: torch.Tensor, *, count: int) -> Attacked:
        if len(targets) == 4 and len(asked) < 5:
            raise KeyboardInterrupt
        asked.append((len(targets), count))
        return Attacked(targets, targets > 2)

    done = tmp_path / "done.json"
    with pytest.raises(KeyboardInterrupt):
        fig5_attack.in_portions(attack, order, math.inf, done)
    assert json.loads(done.read_text()) == [{"code": "commit one"}]
    asked += [(0, 0)] * 2  # so that the next goes through
    monkeypatch.setattr(fig5_attack, "code", lambda: "commit two")
    found, codes = fig5_attack.in_portions(attack, order, math.inf, done)
    assert asked[5:] == [(size, count) for size in (2, 4, 5) for count in (1, 2, 10)]
    assert codes == [{"code": "commit one"}, {"code": "commit two"}, {"code": "commit two"}]
    assert found[10].flipped.tolist() == [True, True, False, True, False]
    # Once the time is up, what is finished is given; of fewer images, those.
    found, codes = fig5_attack.in_portions(attack, order, -math.inf, done)
    assert len(found[1].targets) == 5
    found, codes = fig5_attack.in_portions(attack, order[:2], math.inf, done)
    assert len(found[1].targets) == 2
    assert len(codes) == 1
    assert len(json.loads(done.read_text())) == 3


def test_views_are_of_the_photo_and_the_same_each_time() -> None:
    photo = np.tile(np.arange(32, dtype=np.uint8)[None, :, None] * 8, (3, 1, 32))
    for strength in KEPT:
        found = views(photo, 3, strength, seed=1)
        assert found.shape == (3, 3, 32, 32)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, views(photo, 3, strength, seed=1))
        assert (found[0] != found[1]).any()
        assert (views(photo, 3, strength, seed=2) != found).any()
        assert (views(photo, 2, strength, seed=1) == found[:2]).all()


def test_each_case_differs_from_the_base_by_what_it_says() -> None:
    base = {case.number: case for case in fig5_together.CASES if case.change == "base"}
    for case in fig5_together.CASES:
        if "views" in case.change:
            assert case.targets in KEPT
            continue
        other = [name for name, value in vars(case).items() if value != getattr(base[case.number], name)]
        assert len(other) == (0 if case.change == "base" else 2), case  # the words, and the one thing
    assert len({repr(case) for case in fig5_together.CASES}) == len(fig5_together.CASES)


def test_the_most_flips_of_a_set_are_by_either_training_image() -> None:
    rows = [{"number": 1, "at_best": 3}, {"number": 5, "at_best": 0}, {"number": 1, "at_best": 7}]
    assert fig5_together.most(rows) == [7, 0]
