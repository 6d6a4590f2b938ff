"""Figures of unlearning: each mark stands where its number says."""

import numpy as np

from figures import texts
from upweight import plots


def test_bars_have_the_height_of_their_accuracy_and_changed_classes_are_marked():
    figure = plots.classwise_bars(["a", "b"], {"before": [1.0, 0.5], "after": [0.25, 0.75]}, removed=[0])
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == [1.0, 0.5, 0.25, 0.75]
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert labels == ["a\nchanged", "b"]


def test_a_residual_stands_at_its_iteration_and_zero_is_left_out():
    (axes,) = plots.residual_curves({"a": [1.0, 0.1, 0.0], "b": [1.0]}, tolerance=0.01).axes
    line, other, level = axes.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), [[0, 1.0], [1, 0.1]])
    np.testing.assert_array_equal(other.get_xydata(), [[0, 1.0]])
    assert level.get_ydata()[0] == 0.01
    assert axes.get_yscale() == "log"


def test_a_logarithm_of_iterations_begins_at_the_first():
    (axes,) = plots.residual_curves({"a": [1.0, 0.1, 0.05]}, log_x=True).axes
    np.testing.assert_array_equal(axes.get_lines()[0].get_xdata(), [1, 2])
    assert axes.get_xscale() == "log"


def test_accuracies_are_drawn_by_ratio_whatever_their_order():
    figure = plots.accuracy_by_ratio(
        [1.0, 0.05],
        {"a": [[0.8, 0.1], [0.9, 0.0]]},
        {"a": [[0.01, 0.02], [0.0, 0.0]]},
        before=(0.95, 0.9),
        retrained=(0.96, 0.0),
    )
    left, right = figure.axes
    for axes, heights, levels in ((left, [0.9, 0.8], [0.95, 0.96]), (right, [0.0, 0.1], [0.9, 0.0])):
        curve = axes.containers[0].lines[0]
        np.testing.assert_array_equal(curve.get_xydata(), np.column_stack([[0.05, 1.0], heights]))
        flat = [line.get_ydata()[0] for line in axes.get_lines() if len(set(line.get_ydata())) == 1]
        assert set(levels) <= set(flat)
    assert {"a", "before", "retrained"} <= set(texts(figure))
