"""Bootstrap intervals: those of the normal distribution where it holds, and where the estimate lies."""

import math

import numpy as np
import pytest

from upweight.errors import InputError
from upweight.evaluation.bootstrap import Bootstrap, Interval, draw


def test_draws_are_with_replacement_and_of_equal_chance() -> None:
    drawn = draw(20_000, 4, np.random.default_rng(0))
    assert (drawn.sum(1) == 4).all()
    np.testing.assert_allclose(drawn.mean(0), 1, atol=0.03)
    np.testing.assert_allclose(drawn.var(0), 0.75, atol=0.03)  # binomial: 4 draws of chance 1/4


def test_interval_is_moved_to_the_estimate_and_kept_within_its_bound() -> None:
    replicates = np.append(np.linspace(0, 1, 101), np.nan)
    found = Bootstrap(level=0.9).interval(replicates, 0.8)
    assert (found.low, found.high, found.level) == (pytest.approx(0.35), pytest.approx(1.25), 0.9)
    assert Bootstrap(level=0.9).interval(replicates, 0.8, 1).high == 1
    assert math.isnan(Bootstrap().interval(np.array([np.nan]), 0.8).low)
    assert str(Interval(0.25, 1)) == "[0.250, 1.000]"


def test_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    interval = Bootstrap(resamples=4000).of_mean(values)
    half = 1.96 * values.std() / 20
    np.testing.assert_allclose([interval.low, interval.high], [values.mean() - half, values.mean() + half], atol=0.02)
    assert interval == Bootstrap(resamples=4000).of_mean(np.append(values, np.nan))


@pytest.mark.parametrize(("options", "words"), [({"resamples": 0}, "resamples"), ({"level": 1.0}, "level")])
def test_refuses(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Bootstrap(**options)


def test_intervals_over_models_and_examples_are_wider_than_over_examples_alone(rng):
    models = rng.normal(size=(20, 1))
    values = models + 0.1 * rng.normal(size=(20, 50))
    found = Bootstrap().of_table(values)
    alone = Bootstrap().of_mean(values.mean(0))
    assert found.value == pytest.approx(values.mean())
    assert found.interval.low < found.value < found.interval.high
    assert found.interval.high - found.interval.low > 5 * (alone.high - alone.low)
    assert math.isnan(Bootstrap().of_table(values[:, :1]).interval.low)
