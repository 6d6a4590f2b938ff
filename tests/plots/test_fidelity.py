"""Histograms of correlations and curves with bands show the numbers they are given."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from figures import legend, texts
from upweight import plots
from upweight.errors import InputError


def test_correlations_are_counted_and_their_mean_and_ceiling_drawn(rng):
    values = np.clip(rng.normal(0.4, 0.3, size=200), -1, 1)
    figure = plots.correlation_histogram(values, mean=(0.4, 0.3, 0.5), ceiling=0.9, title=r"_$\frac$")
    axes = figure.axes[0]
    bars = [patch for patch in axes.patches if patch.get_height() >= 0][:-1]
    assert sum(bar.get_height() for bar in bars) == 200
    below = sum(bar.get_height() for bar in bars if bar.get_facecolor() == bars[0].get_facecolor())
    assert below == (values < 0).sum()
    assert [line.get_xdata()[0] for line in axes.lines] == [0.4, 0.9]
    assert legend(figure) == ["mean 0.400, interval 0.300 to 0.500", "a perfect predictor's mean ≈ 0.900"]
    assert r"_$\frac$" in texts(figure)
    assert isinstance(plots.correlation_histogram([1.0]), Figure)


def test_curves_and_bands_are_as_given():
    curves, bands = {"$a$": [0.0, 1.0], "b": [0.5, 0.25]}, {"b": ([0.4, 0.2], [0.6, 0.3])}
    figure = plots.curves_with_bands([1, 5], curves, bands, xlabel="k", ylabel="share", note="note", title="t")
    axes = figure.axes[0]
    for line, values in zip(axes.lines, curves.values(), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values)
        np.testing.assert_array_equal(line.get_xdata(), [1, 5])
    (band,) = axes.collections
    corners = {tuple(point) for point in np.round(band.get_paths()[0].vertices, 9)}
    assert {(1, 0.4), (5, 0.2), (1, 0.6), (5, 0.3)} <= corners
    assert legend(figure) == ["$a$", "b"]
    assert {"t", "note", "k", "share"} <= set(texts(figure))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.correlation_histogram([]), "correlations: got an empty"),
        (lambda: plots.curves_with_bands([1], {}, xlabel="", ylabel=""), "curves: got none"),
        (lambda: plots.curves_with_bands([1], {"a": [1, 2]}, xlabel="", ylabel=""), r"curves\['a'\]: got shape \(2,\)"),
        (
            lambda: plots.curves_with_bands([1], {"a": [1]}, {"b": ([1], [1])}, xlabel="", ylabel=""),
            r"bands: \['b'\] have no curve",
        ),
        (
            lambda: plots.curves_with_bands([1], {"a": [1]}, {"a": ([1], [np.nan])}, xlabel="", ylabel=""),
            r"bands\['a'\]: 1 of 1",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(draw, message):
    with pytest.raises(InputError, match=message):
        draw()
