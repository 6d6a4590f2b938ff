"""A recovery curve counts what each order finds."""

import numpy as np
import torch

from figures import legend, texts
from upweight import plots


def test_recovery_counts_what_each_order_finds():
    flipped = torch.tensor([False, True, False, True, False, False, False, False])
    orders = {"good": [1, 3, 0, 2, 4, 5, 6, 7], "_late $x$": np.array([0, 2, 1])}
    figure = plots.recovery_curve(orders, flipped)
    good, late, chance = figure.axes[0].lines
    np.testing.assert_allclose(good.get_ydata(), [0, 0.5, 1, 1, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(good.get_xdata(), np.arange(9) / 8)
    np.testing.assert_allclose(late.get_ydata(), [0, 0, 0, 0.5])
    np.testing.assert_array_equal(chance.get_xdata(), chance.get_ydata())
    assert legend(figure) == [
        "good: 100% found after checking 25.0%",
        "_late $x$: 0% found after checking 25.0%",
        "at random",
    ]
    assert "n = 8 · 2 flipped labels (25.0%)" in texts(figure)
