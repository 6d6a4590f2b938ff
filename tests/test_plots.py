"""Figures show what was given, with the statistics that scipy gives, and refuse what cannot be drawn."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from scipy import stats

from upweight import plots


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def texts(figure):
    FigureCanvasAgg(figure).draw()  # only drawing settles the tick labels and finds text that cannot be set
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def statistic(figure, name):
    note = next(text for text in texts(figure) if text.startswith("n = "))
    values = dict(part.split(" = ") for part in note.split(" · ") if " = " in part)
    return float(values[name].replace("−", "-"))


def test_agreement_writes_the_statistics_of_scipy(rng):
    predicted = rng.normal(size=40)
    actual = 0.7 * predicted + 0.4 * rng.normal(size=40) + 1
    figure = plots.predicted_against_actual(predicted, torch.tensor(actual), unit="nats", quantity="change of loss")
    assert statistic(figure, "n") == 40
    assert statistic(figure, "Pearson r") == pytest.approx(stats.pearsonr(predicted, actual).statistic, rel=5e-3)
    assert statistic(figure, "Spearman ρ") == pytest.approx(stats.spearmanr(predicted, actual).statistic, rel=5e-3)
    line = stats.linregress(predicted, actual)
    assert statistic(figure, "slope") == pytest.approx(line.slope, rel=5e-3)
    fit = figure.axes[0].lines[-1]
    np.testing.assert_allclose(fit.get_ydata(), line.slope * fit.get_xdata() + line.intercept)


def test_agreement_puts_predictions_across_on_equal_axes_with_a_diagonal(rng):
    predicted, actual = rng.normal(size=9), 5 * rng.normal(size=9)
    axes = plots.predicted_against_actual(predicted, actual, unit="nats", quantity="change of loss").axes[0]
    np.testing.assert_array_equal(axes.collections[-1].get_offsets(), np.stack([predicted, actual], 1))
    assert axes.get_xlabel() == "Predicted change of loss (nats)"
    assert axes.get_ylabel() == "Actual change of loss (nats)"
    assert axes.get_xlim() == axes.get_ylim()
    assert axes.get_aspect() == 1
    diagonal = axes.lines[0]
    np.testing.assert_array_equal(diagonal.get_xdata(), diagonal.get_ydata())


def test_agreement_draws_error_bars_of_one_standard_error(rng):
    predicted, actual, error = rng.normal(size=5), rng.normal(size=5), rng.random(5)
    axes = plots.predicted_against_actual(predicted, actual, standard_error=error).axes[0]
    segments = np.array(axes.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, :, 1], np.stack([actual - error, actual + error], 1))
    np.testing.assert_allclose(segments[:, 0, 0], predicted)
    across = plots.predicted_against_actual(predicted, actual, predicted_standard_error=error).axes[0]
    segments = np.array(across.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, :, 0], np.stack([predicted - error, predicted + error], 1))


def test_agreement_names_the_points_farthest_from_the_diagonal():
    actual = np.arange(20.0)
    actual[1] += 9  # not among the largest, only far from its prediction
    written = texts(plots.predicted_against_actual(np.arange(20.0), actual, labels=[f"id {i}" for i in range(20)]))
    assert "id 1" in written
    assert sum(text.startswith("id ") for text in written) == plots.NAMED


@pytest.mark.parametrize(("predicted", "actual"), [([1.0], [2.0]), ([1.0, 1.0], [2.0, 3.0]), ([1.0, 2.0], [3.0, 3.0])])
def test_agreement_says_when_correlation_is_undefined(predicted, actual, recwarn):
    written = texts(plots.predicted_against_actual(predicted, actual))
    assert any("correlation undefined" in text for text in written)
    assert not any("nan" in text for text in written)
    assert not recwarn.list


def test_agreement_without_statistics_writes_none(rng):
    figure = plots.predicted_against_actual(rng.normal(size=9), rng.normal(size=9), statistics=False)
    assert not any("Pearson" in text for text in texts(figure))
    assert legend(figure) == ["actual = predicted"]


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


@pytest.mark.parametrize("heavy", [False, True])
def test_histogram_counts_every_score_and_keeps_the_signs_apart(heavy, rng):
    scores = rng.standard_t(1.1, 4000) if heavy else rng.normal(size=(40, 100))
    figure = plots.score_histogram(scores, unit="nats", quantity="Change of loss", signs=("harmful", "helpful"))
    axes = figure.axes[0]
    bars = axes.patches
    assert sum(bar.get_height() for bar in bars) == 4000
    assert sum(bar.get_height() for bar in bars if bar.get_x() < 0) == (scores < 0).sum()
    colours = {matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in bars if bar.get_x() < 0}
    assert colours == {plots.NEGATIVE}
    assert axes.get_xscale() == ("symlog" if heavy else "linear")
    assert axes.get_xlabel() == "Change of loss (nats)"
    marked = axes.lines[-1].get_xdata()
    np.testing.assert_array_equal(marked, np.sort(scores, None)[[0, 1, 2, 3, -4, -3, -2, -1]])
    assert legend(figure)[:2] == ["negative: harmful", "positive: helpful"]
    assert statistic(figure, "n") == 4000
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


def test_ranking_puts_the_highest_score_on_top():
    figure = plots.ranking_bars(["a", "b$", "c"], torch.tensor([-1.0, 3.0, 2.0]), unit="nats", quantity="Change")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [-1, 2, 3]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c", "b$"]
    assert legend(figure) == ["negative: harmful", "positive: helpful"]
    assert {"−1", "2", "3"} <= set(texts(figure))
    assert axes.get_xlabel() == "Change (nats)"


def test_perturbation_adds_channels_and_centres_colours_on_zero(rng):
    gradient = rng.normal(size=(3, 4, 5))
    figure = plots.perturbation(rng.random((3, 4, 5)), gradient, unit="nats per pixel", quantity="gradient")
    left, right, bar = figure.axes
    shown = right.images[0]
    np.testing.assert_allclose(shown.get_array(), gradient.sum(0))
    assert shown.get_clim() == (-np.abs(gradient.sum(0)).max(), np.abs(gradient.sum(0)).max())
    assert np.shape(left.images[0].get_array()) == (4, 5, 3)
    assert bar.get_ylabel() == "gradient (nats per pixel)"


def drawn():
    """Every plot with sound input."""
    return [
        plots.predicted_against_actual([1.0, 2.0], [1.0, 3.0], title="t"),
        plots.recovery_curve({"a": [0]}, [True, False], title="t"),
        plots.example_grid(np.zeros((2, 3, 3)), ["a", "b"], title="t"),
        plots.score_histogram([1.0, -2.0], unit="", quantity="q", title="t"),
        plots.influence_against([1.0, 2.0], [1.0, 2.0], xlabel="x", unit="", title="t"),
        plots.ranking_bars(["a"], [1.0], unit="", quantity="q", title="t"),
        plots.perturbation(np.zeros((3, 3)), np.zeros((3, 3)), title="t"),
    ]


def test_every_plot_is_a_figure_with_its_title():
    for figure in drawn():
        assert isinstance(figure, Figure)
        assert "t" in texts(figure)


def test_no_style_of_the_user_enters_and_none_is_left_behind():
    with matplotlib.rc_context({"axes.facecolor": "black", "figure.facecolor": "black", "text.color": "white"}):
        before = dict(matplotlib.rcParams)
        figures = drawn()
        assert dict(matplotlib.rcParams) == before
    assert all(figure.get_facecolor() == (1, 1, 1, 1) for figure in figures)


def test_pyplot_is_never_loaded():
    code = "import sys; from upweight import plots; plots.score_histogram([1.0], unit='', quantity='');"
    subprocess.run([sys.executable, "-c", code + "assert 'matplotlib.pyplot' not in sys.modules"], check=True)


BAD = [
    (lambda: plots.predicted_against_actual([], []), "predicted: got an empty array"),
    (lambda: plots.predicted_against_actual([1.0, 2.0], [1.0]), "actual: got 1, but predicted has 2"),
    (lambda: plots.predicted_against_actual([1.0, np.nan], [1.0, 2.0]), "predicted: 1 of 2 .* nan at 1"),
    (lambda: plots.predicted_against_actual([[1.0]], [1.0]), r"predicted: got shape \(1, 1\)"),
    (lambda: plots.predicted_against_actual(["a"], [1.0]), "predicted: got dtype"),
    (lambda: plots.predicted_against_actual([1.0], [1.0], standard_error=[-1.0]), "standard_error: .* -1.0"),
    (lambda: plots.predicted_against_actual([1.0], [1.0], labels=["a", "b"]), "labels: got 2"),
    (lambda: plots.recovery_curve({}, [True]), "orders: got no method"),
    (lambda: plots.recovery_curve({"a": [0]}, [False]), "flipped: none of 1 is True"),
    (lambda: plots.recovery_curve({"a": [0]}, [3]), "flipped: .* True or False"),
    (lambda: plots.recovery_curve({"a": [0, 2]}, [True, False]), r"orders\['a'\]: got 2"),
    (
        lambda: plots.recovery_curve({"a": [0, 0]}, [True, False]),
        r"orders\['a'\]: position 0 is checked 2 times",
    ),
    (lambda: plots.recovery_curve({"a": [0.5]}, [True, False]), r"orders\['a'\]: got 0.5"),
    (lambda: plots.example_grid([], []), "images: got none"),
    (lambda: plots.example_grid([np.zeros((2, 2))], ["a", "b"]), "captions: got 2, but images has 1"),
    (lambda: plots.example_grid([np.zeros((2, 2, 7))], ["a"]), r"images\[0\]: got shape \(2, 2, 7\)"),
    (lambda: plots.example_grid([np.full((2, 2), np.inf)], ["a"]), r"images\[0\]: 4 of 4 .* inf at \(0, 0\)"),
    (lambda: plots.example_grid([np.zeros((2, 2))], ["a"], columns=0), "columns: got 0"),
    (lambda: plots.score_histogram([], unit="", quantity=""), "scores: got an empty array"),
    (lambda: plots.score_histogram([np.inf], unit="", quantity=""), "scores: 1 of 1 .* inf at 0"),
    (lambda: plots.influence_against([1.0], [1.0, 2.0], xlabel="", unit=""), "scores: got 2, but x has 1"),
    (lambda: plots.influence_against([1.0], [1.0], groups=[], xlabel="", unit=""), "groups: got 0"),
    (lambda: plots.ranking_bars(["a"], [1.0, 2.0], unit="", quantity=""), "labels: got 1"),
    (lambda: plots.ranking_bars(range(201), np.zeros(201), unit="", quantity=""), "scores: got 201"),
    (lambda: plots.perturbation(np.zeros((2, 2)), np.zeros((3, 3))), r"gradient: .*\(3, 3\).*\(2, 2\)"),
]


@pytest.mark.parametrize(("draw", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_cannot_be_drawn_is_refused_by_name(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_bfloat16_with_gradient_is_drawn():
    scores = torch.tensor([0.5, -1.0], dtype=torch.bfloat16, requires_grad=True)
    axes = plots.ranking_bars(["a", "b"], scores, unit="", quantity="q").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [-1.0, 0.5]


def test_images_are_drawn_without_smoothing():
    figure = plots.example_grid(np.zeros((1, 3, 3)), ["a"])
    assert [image.get_interpolation() for image in figure.findobj(AxesImage)] == ["nearest"]


RAW = r"_ $\frac$"  # as mathematics this is an error, and a legend leaves out what begins with "_"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.predicted_against_actual(
            [1.0, 2.0], [1.0, 3.0], unit=RAW, quantity=RAW, labels=[RAW, RAW], title=RAW
        ),
        lambda: plots.recovery_curve({RAW: [0]}, [True, False], quantity=RAW, title=RAW),
        lambda: plots.example_grid(np.zeros((1, 3, 3)), [RAW], title=RAW),
        lambda: plots.score_histogram([1.0, -2.0], unit=RAW, quantity=RAW, signs=(RAW, RAW), title=RAW),
        lambda: plots.influence_against([1.0], [1.0], groups=[RAW], xlabel=RAW, unit=RAW, quantity=RAW, title=RAW),
        lambda: plots.ranking_bars([RAW], [1.0], unit=RAW, quantity=RAW, signs=(RAW, RAW), title=RAW),
        lambda: plots.perturbation(np.zeros((3, 3)), np.zeros((3, 3)), unit=RAW, quantity=RAW, caption=RAW, title=RAW),
    ],
)
def test_user_text_is_drawn_as_it_is(draw):
    assert sum(RAW in text for text in texts(draw())) >= 2
