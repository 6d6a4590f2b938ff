"""The three figures of agreement."""

import math

import numpy as np
import pytest
from scipy import stats

from upweight.errors import InputError
from upweight.evaluation import agreement


def test_equals_scipy_on_any_shape() -> None:
    generator = np.random.default_rng(0)
    predicted = generator.normal(size=(3, 20))
    actual = 1.7 * predicted + generator.normal(size=(3, 20))
    found = agreement(predicted, actual)
    assert found.pearson == pytest.approx(stats.pearsonr(predicted.ravel(), actual.ravel()).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(predicted.ravel(), actual.ravel()).statistic)
    assert found.slope == pytest.approx(np.polyfit(predicted.ravel(), actual.ravel(), 1)[0])
    assert found.pairs == 60


def test_slope_is_of_actual_on_predicted() -> None:
    assert agreement([1, 2, 3], [2, 4, 6]).slope == pytest.approx(2)


def test_constant_sides_have_no_correlation() -> None:
    assert math.isnan(agreement([1, 1, 1], [1, 2, 3]).pearson)


@pytest.mark.parametrize("pair", [([1], [1]), ([1, 2], [1, 2, 3]), ([1, np.nan], [1, 2])])
def test_refuses_what_cannot_be_compared(pair: tuple) -> None:
    with pytest.raises(InputError, match=r"^predicted"):
        agreement(*pair)
