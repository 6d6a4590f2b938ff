"""Metasmoothness: what it is in closed form, when it is low, and what is then said."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import upweight as uw
from replays import QUERIES, declared, examples, network
from upweight.replay import RoughTrainingWarning, smoothness
from upweight.replay.smoothness import empirical_metasmoothness, kinks


def test_the_figure_is_the_weighted_agreement_of_signs() -> None:
    first, second = torch.zeros(3), torch.tensor([1.0, -2.0, 1.0])
    assert empirical_metasmoothness(first, second, 2 * second) == 1
    assert empirical_metasmoothness(first, second, first) == -1
    third = second + torch.tensor([0.1, -0.1, -5.0])  # the last of them turns back
    assert empirical_metasmoothness(first, second, third) == (1 + 2 - 1) / 4
    assert empirical_metasmoothness(first, first, first) == 1


def test_least_squares_by_a_step_is_linear_in_the_weights() -> None:
    x, y = examples()
    model = nn.Linear(3, 1).double()
    replay = uw.Replay(
        model, uw.losses.SquaredError(), (x, y.double()), optimizer=uw.replay.SGD(0.1), epochs=1, batch_size=20
    )
    found = replay.metasmoothness()
    assert found.value == pytest.approx(1)
    assert found.smooth
    assert found.kinks == ()


def test_a_smooth_training_is_trusted_and_finite_differences_agree() -> None:
    found = declared(uw.replay.SGD(0.1, momentum=0.8)).attribute(QUERIES)
    assert found.facts["metasmoothness"] > 0.9
    assert found.facts["finite difference r"] > 0.99
    assert found.facts["finite difference slope"] == pytest.approx(1, abs=0.1)
    assert found.magnitude is not None
    assert found.magnitude.trusted


def test_a_rough_training_is_marked_and_its_kinks_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothness, "BOUND", 1.0)
    replay = declared(uw.replay.Adam(0.1), network(nn.ReLU))
    with pytest.warns(RoughTrainingWarning, match=r"metasmoothness 0\.\d+ .*ReLU '1'.*eps=1e-08.*GELU"):
        found = replay.attribute(QUERIES)
    assert found.magnitude is not None
    assert not found.magnitude.trusted
    assert "metasmoothness" in found.magnitude.reason
    with pytest.warns(RoughTrainingWarning):
        assert not replay.metasmoothness().smooth


def test_without_measuring_it_sizes_are_not_trusted() -> None:
    found = declared().attribute(QUERIES, smoothness=False)
    assert found.magnitude is not None
    assert not found.magnitude.trusted
    assert "not measured" in found.magnitude.reason


class Called(nn.Module):
    """Kinks that are no modules."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv1d(1, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool1d(torch.relu(self.inner(x)), 2).clamp(max=3).sum((1, 2))


def test_kinks_are_modules_by_name_and_operations_called_as_functions() -> None:
    model = Called()
    found = kinks(model, model(torch.randn(3, 1, 8)))
    assert len(found) == 3
    assert any(words.startswith("Relu × 1") for words in found)
    assert any("MaxPool" in words for words in found)
    assert any("Clamp" in words for words in found)
    both = nn.Sequential(nn.Conv1d(1, 2, 2), nn.ReLU(), nn.MaxPool1d(2))
    assert kinks(both, both(torch.randn(3, 1, 8)).sum((1, 2))) == ("ReLU '1'", "MaxPool1d '2'")
    smooth = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Softmax(-1))
    assert kinks(smooth, smooth(torch.randn(3, 2)).sum(1)) == ()
