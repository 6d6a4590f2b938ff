"""Predictions against retraining are drawn point by point, with the statistics that scipy gives."""

import numpy as np
import pytest
import torch
from scipy import stats

from figures import legend, statistic, texts
from upweight import plots
from upweight.plots import words
from upweight.plots.style import NAMED


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
    assert sum(text.startswith("id ") for text in written) == NAMED


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


@pytest.mark.parametrize("shape", [(), (3, 4), (2, 3, 2)])
def test_agreement_of_any_shape_pairs_value_by_value(shape, rng):
    predicted, actual, error = rng.normal(size=shape), torch.tensor(rng.normal(size=shape)), rng.random(shape)
    labels = np.array([f"id {i}" for i in range(predicted.size)], dtype=object).reshape(shape)
    given = {"standard_error": error, "predicted_standard_error": 2 * error, "labels": labels}
    axes = plots.predicted_against_actual(predicted, actual, **given).axes[0]
    flat = [predicted.ravel(), actual.ravel()]
    np.testing.assert_array_equal(axes.collections[-1].get_offsets(), np.stack(flat, 1))
    across, upright = (np.array(bars.get_segments()) for bars in axes.collections[:2])
    np.testing.assert_allclose(np.ptp(across[:, :, 0], axis=1), 4 * error.ravel())
    np.testing.assert_allclose(np.ptp(upright[:, :, 1], axis=1), 2 * error.ravel())
    named = {text.get_text(): text.xy for text in axes.texts if text.get_text().startswith("id ")}
    assert len(named) == min(NAMED, predicted.size)
    assert all(at == (flat[0][int(name[3:])], flat[1][int(name[3:])]) for name, at in named.items())


def test_agreement_does_not_depend_on_how_arrays_lie_in_memory(rng):
    predicted, actual = rng.normal(size=(3, 4)), rng.normal(size=(4, 3)).T
    axes = plots.predicted_against_actual(predicted, actual).axes[0]
    pairs = [[predicted[i, j], actual[i, j]] for i in range(3) for j in range(4)]
    np.testing.assert_array_equal(axes.collections[-1].get_offsets(), pairs)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.5, "0.500"),
        (-0.98765, "−0.988"),
        (0.99994, "0.99994"),
        (1.0061, "1.006"),
        (1.0, "1"),
        (-0.004227, "−0.00423"),
    ],
)
def test_coefficients_are_told_from_one(value: float, written: str) -> None:
    assert words.coefficient(value) == written
