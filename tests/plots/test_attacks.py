"""Figures of attacks: a line per attack, a change under every image, and what can't be drawn."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from figures import texts
from upweight import plots
from upweight.errors import InputError

PATHS = np.array([[0.9, 0.7, 0.4], [0.8, 0.6, np.nan]])


def test_every_attack_has_its_line_to_its_last_step():
    figure = plots.attack_paths(PATHS, [True, False], note="1 of 2", title="t")
    axes = figure.axes[0]
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 3 or len(line.get_xdata()) == 2]
    assert [list(line.get_ydata()) for line in lines[:2]] == [[0.9, 0.7, 0.4], [0.8, 0.6]]
    assert {"flipped (1)", "held (1)", "t", "1 of 2"} <= set(texts(figure))


def test_each_image_stands_above_its_change():
    stored = np.full((2, 3, 4, 4), 100, np.uint8)
    changes = np.zeros((2, 3, 4, 4))
    changes[1, :, 0, 0] = 0.25
    figure = plots.changed_images(stored, changes, ["a", "b"], title="t")
    assert isinstance(figure, Figure)
    assert {"a", "b", "t"} <= set(texts(figure))
    below = [axes.get_images()[0] for axes in figure.axes[2:4]]
    assert float(below[1].get_array()[0, 0]) == 0.25
    assert below[0].get_clim() == below[1].get_clim() == (-0.25, 0.25)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plots.attack_paths(PATHS, [True]), r"flipped: got shape \(1,\)"),
        (lambda: plots.changed_images(np.zeros((2, 3, 3)), np.zeros((1, 3, 3)), ["a", "b"]), "changes: got 1"),
        (lambda: plots.changed_images(np.zeros((1, 3, 3)), np.zeros((1, 3, 4)), ["a"]), "of equal shape"),
        (lambda: plots.changed_images(np.zeros((1, 3, 3)), np.zeros((1, 3, 3)), ["a", "b"]), "captions: got 2"),
    ],
)
def test_what_does_not_fit_is_refused(draw, words):
    with pytest.raises(InputError, match=words):
        draw()
