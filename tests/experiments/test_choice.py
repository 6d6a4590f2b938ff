"""Rules on numbers made by hand, and the networks of the tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from experiments.choice import gains
from experiments.choice.networks import Recurrent, Transformer, batch_normed, convolutional, perceptron
from experiments.choice.rules import RULES, gaps, grid, left_out, moved_or_tempered

from upweight.planning.ways import GAINS, MOVED, TRAINED

FOUND: dict[str, Any] = {
    "automatic": {"lds": 0.5},
    "dual 1.0": {"lds": {"0.25": 0.4, "1.0": 0.5}, "left out": {"0.25": 2.0, "1.0": 0.4}},
    "dual 2.0": {"lds": {"0.25": 0.6, "1.0": 0.7}},
    "EK-FAC 1.0": {"lds": {"1.0": 0.3}},
    "EK-FAC 2.0": {"lds": {"1.0": 0.2}},
    "automatic 2.0": {"lds": 0.65},
    "expanded 0": {"lds": 0.8},
    "moved": {"loss": 0.2},
    "losses": {
        "training": {"1.0": 0.1, "2.0": 0.2},
        "queries": {"1.0": 1.9, "2.0": 1.2},
        "halves": 0.21,
    },
}


def test_rules_choose_by_what_they_may_look_at() -> None:
    assert left_out(FOUND) == 0.4  # 2.0 is nearest to the queries' 1.9
    assert RULES["dual, temperature by the queries' loss"](FOUND) == 0.7
    assert RULES["dual, temperature by the loss of halves"](FOUND) == 0.7
    assert RULES["EK-FAC, tempered by 2"](FOUND) == 0.2
    assert moved_or_tempered(FOUND) == 0.8
    assert moved_or_tempered({**FOUND, "moved": {"loss": 0.05}}) == 0.65


def test_gaps_are_to_the_best_of_the_whole_grid() -> None:
    assert len(grid(FOUND)) == 6
    assert gaps({"one": FOUND}, RULES["today's choice"])["one"] == pytest.approx(0.2)


def test_networks_give_a_row_of_logits_for_each_example() -> None:
    image = torch.zeros(3, 1, 14, 14)
    for model, x, classes in (
        (perceptron(196, 8, 10), image, 10),
        (convolutional(1, 14, smooth=False), image, 10),
        (Recurrent(8, 4, 10), torch.zeros(3, 8, 8), 10),
        (Transformer(8, 8, 8, 2, 10), torch.zeros(3, 8, 8), 10),
        (batch_normed(5), torch.zeros(3, 5), 2),
    ):
        assert model(x).shape == (3, classes)


def test_what_is_recommended_by_is_what_stands_beside_the_results() -> None:
    assert gains.by_way() == GAINS


def test_moving_counts_where_it_raises_the_training_loss() -> None:
    numbers = {"tasks": {"one": FOUND, "other": {**FOUND, "moved": {"loss": 0.05}}}}
    assert gains.of_choice(numbers, (MOVED, 0)) == pytest.approx([0.3])
    assert gains.of_choice(numbers, (TRAINED, 3)) == []  # wasn't measured
    assert gains.measured([0.1, -0.2, 0.4]).worst == -0.2
