"""Images are shown as they are, comparable with one another."""

import numpy as np
import pytest
import torch
from matplotlib.image import AxesImage

from upweight import plots


def test_grid_shows_every_image_over_its_caption(rng):
    images = [
        rng.random((3, 5, 6)),
        rng.random((5, 6)),
        torch.rand(5, 6, 1),
        rng.integers(0, 256, (5, 6, 3), np.uint8),
    ]
    captions = ["a $1$", "b", "c", "d <e>"]
    figure = plots.example_grid(images, captions, columns=3)
    assert [axes.get_xlabel() for axes in figure.axes] == captions
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert [np.shape(image) for image in shown] == [(5, 6, 3), (5, 6), (5, 6), (5, 6, 3)]
    np.testing.assert_array_equal(shown[3], images[3])
    assert figure.axes[3].get_subplotspec().rowspan.start == 1


def test_pixels_keep_bytes_and_scale_numbers():
    as_bytes = np.arange(6, dtype=np.uint8).reshape(2, 3)
    as_shares = np.array([[0.0, 0.5, 1.0]])
    np.testing.assert_array_equal(plots.pixels([as_bytes])[0], as_bytes)
    np.testing.assert_array_equal(plots.pixels([as_shares])[0], [[0, 128, 255]])
    np.testing.assert_array_equal(plots.pixels(torch.tensor([[[0, 8, 16]]]))[0], [[0, 128, 255]])


def test_pixels_stretch_images_shown_together_alike():
    dark, light = plots.pixels([np.array([[-1.0, 0.0]]), np.array([[0.0, 3.0]])])
    assert dark[0, 1] == light[0, 0] == 64
    assert (dark.min(), light.max()) == (0, 255)


@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 5, 3), (4, 5), (1, 4, 5), (4, 5, 1)])
def test_pixels_put_channels_last(shape, rng):
    image = rng.integers(0, 256, shape, np.uint8)
    [shown] = plots.pixels([image])
    assert shown.shape == ((4, 5, 3) if 3 in shape else (4, 5))
    expected = np.moveaxis(image, 0, -1) if shape[0] in (1, 3) else image
    np.testing.assert_array_equal(shown, expected.reshape(shown.shape))


def test_perturbation_adds_channels_and_centres_colours_on_zero(rng):
    gradient = rng.normal(size=(3, 4, 5))
    figure = plots.perturbation(rng.random((3, 4, 5)), gradient, unit="nats per pixel", quantity="gradient")
    left, right, bar = figure.axes
    shown = right.images[0]
    np.testing.assert_allclose(shown.get_array(), gradient.sum(0))
    assert shown.get_clim() == (-np.abs(gradient.sum(0)).max(), np.abs(gradient.sum(0)).max())
    assert np.shape(left.images[0].get_array()) == (4, 5, 3)
    assert bar.get_ylabel() == "gradient (nats per pixel)"


def test_images_are_drawn_without_smoothing():
    figure = plots.example_grid(np.zeros((1, 3, 3)), ["a"])
    assert [image.get_interpolation() for image in figure.findobj(AxesImage)] == ["nearest"]
