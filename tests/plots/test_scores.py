"""Scores are drawn all, with their signs and groups told apart."""

import matplotlib
import numpy as np
import pytest
import torch
from scipy import stats

from figures import legend, statistic, texts
from upweight import plots
from upweight.plots.style import NEGATIVE


@pytest.mark.parametrize("heavy", [False, True])
def test_histogram_counts_every_score_and_keeps_the_signs_apart(heavy, rng):
    scores = rng.standard_t(1.1, 4000) if heavy else rng.normal(size=(40, 100))
    figure = plots.score_histogram(scores, unit="nats", quantity="Change of loss", signs=("harmful", "helpful"))
    axes = figure.axes[0]
    bars = axes.patches
    assert sum(bar.get_height() for bar in bars) == 4000
    assert sum(bar.get_height() for bar in bars if bar.get_x() < 0) == (scores < 0).sum()
    colours = {matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in bars if bar.get_x() < 0}
    assert colours == {NEGATIVE}
    assert axes.get_xscale() == ("symlog" if heavy else "linear")
    assert axes.get_xlabel() == "Change of loss (nats)"
    marked = axes.lines[-1].get_xdata()
    np.testing.assert_array_equal(marked, np.sort(scores, None)[[0, 1, 2, 3, -4, -3, -2, -1]])
    assert legend(figure)[:2] == ["negative: harmful", "positive: helpful"]
    assert statistic(figure, "n") == 4000
    assert any("n = 4,000" in text for text in texts(figure))
    assert any(f"highest {scores.max():.3g}" in text for text in texts(figure))


@pytest.mark.parametrize(
    "scores",
    [[0.0], [2.0], [-1e-9, -1e-9], [0.0, 0.0, 1e-30], [1e30, -1e-30, 1.0], [1.0, 1.0 + 3e-16], [1e6, 1e6 + 1e-9]],
)
def test_histogram_takes_degenerate_scores(scores, recwarn):
    figure = plots.score_histogram(scores, unit="", quantity="Score")
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == len(scores)
    texts(figure)
    assert not recwarn.list


@pytest.mark.parametrize("shape", [(), (12,), (3, 4), (2, 3, 2)])
def test_histogram_counts_scores_of_any_shape(shape, rng):
    figure = plots.score_histogram(torch.tensor(rng.normal(size=shape)), unit="", quantity="Score")
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == np.prod(shape)


def test_influence_is_coloured_by_group(rng):
    x, scores = rng.random(30), rng.normal(size=30)
    groups = torch.tensor([4, 2, 2] * 10)
    figure = plots.influence_against(x, scores, groups=groups, xlabel="Distance (pixels)", unit="nats")
    axes = figure.axes[0]
    first, second = axes.collections
    np.testing.assert_array_equal(first.get_offsets(), np.stack([x, scores], 1)[::3])
    assert len(second.get_offsets()) == 20
    assert not np.array_equal(first.get_facecolor()[0], second.get_facecolor()[0])
    assert legend(figure) == ["4 (n = 10)", "2 (n = 20)"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Distance (pixels)", "Influence (nats)")
    assert statistic(figure, "Spearman ρ") == pytest.approx(stats.spearmanr(x, scores).statistic, rel=5e-3)


@pytest.mark.parametrize("as_array", [True, False])
def test_influence_of_several_queries_is_drawn_value_by_value(as_array, rng):
    x, scores = rng.normal(size=(3, 4)), torch.tensor(rng.normal(size=(4, 3))).T
    groups = np.arange(12).reshape(3, 4) // 6
    given = groups if as_array else groups.ravel().tolist()
    figure = plots.influence_against(x, scores, groups=given, xlabel="x", unit="nats")
    drawn = np.concatenate([points.get_offsets() for points in figure.axes[0].collections])
    np.testing.assert_array_equal(drawn, np.stack([x.ravel(), scores.reshape(-1)], 1))
    assert legend(figure) == ["0 (n = 6)", "1 (n = 6)"]


def test_ranking_puts_the_highest_score_on_top():
    figure = plots.ranking_bars(["a", "b$", "c"], torch.tensor([-1.0, 3.0, 2.0]), unit="nats", quantity="Change")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [-1, 2, 3]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c", "b$"]
    assert legend(figure) == ["negative: harmful", "positive: helpful"]
    assert {"−1", "2", "3"} <= set(texts(figure))
    assert axes.get_xlabel() == "Change (nats)"


def test_bfloat16_with_gradient_is_drawn():
    scores = torch.tensor([0.5, -1.0], dtype=torch.bfloat16, requires_grad=True)
    axes = plots.ranking_bars(["a", "b"], scores, unit="", quantity="q").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [-1.0, 0.5]
