"""Numbers are written with the digits asked for and can be read back."""

import numpy as np
import pytest
import torch

from upweight.report.numbers import MISSING, cell, significant


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"),
        (-0.0, 3, "0"),
        (0.04, 3, "0.0400"),
        (-1234.56, 3, "-1235"),
        (999.96, 4, "1000"),
        (0.00012345, 3, "0.000123"),
        (0.000099996, 3, "0.000100"),
        (1.5e-7, 3, "1.50e-7"),
        (12345678.0, 2, "1.2e7"),
        (2.5, 1, "2"),
        (float("nan"), 3, "nan"),
        (float("-inf"), 3, "-inf"),
    ],
)
def test_significant_digits(value, digits, text):
    assert significant(value, digits) == text


@pytest.mark.parametrize("digits", [1, 3, 6])
def test_what_is_written_reads_back_within_half_a_digit(digits):
    for value in np.random.default_rng(0).standard_cauchy(300) * 10.0 ** np.arange(-150, 150):
        assert float(significant(value, digits)) == pytest.approx(value, rel=0.5001 * 10.0 ** (1 - digits))


def test_cells_say_what_the_value_is():
    assert cell(1 / 3, 2).text == "0.33"
    assert cell(1 / 3, 2).exact == repr(1 / 3)
    assert cell(torch.tensor(7), 3).text == "7"
    assert cell(np.float32(0.5), 3).numeric
    assert cell(123456789, 3).text == "123456789"
    assert cell(np.bool_(True), 3).text == "yes"
    assert cell(None, 3) is MISSING
    assert not cell("1.5", 3).numeric
