"""Before and after: intervals that hold the truth, and what decisions change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from upweight.errors import InputError
from upweight.explore import Cleaned, Figure, changes, compared
from upweight.explore.cleaned import ROOT_SQUARE, now
from upweight.explore.decisions import Decision
from upweight.store.backend import Memory

DECISION = Decision("k", "s", "x", 0, "keep", "ant", "ant", "me", "now")


def test_the_interval_of_a_change_is_that_of_examples_in_pairs() -> None:
    random = np.random.default_rng(0)
    before = random.normal(size=400)
    after = before + random.normal(0.3, 0.5, size=400)
    found = compared("mean loss", before, after, higher_is_better=False)
    error = (after - before).std(ddof=1) / 20
    assert found.change == pytest.approx((after - before).mean())
    assert [found.low, found.high] == pytest.approx(
        [found.change - 1.96 * error, found.change + 1.96 * error], abs=0.15 * error
    )
    assert found.verdict == "worse"


def test_a_root_of_squares_goes_with_the_errors_in_pairs() -> None:
    random = np.random.default_rng(2)
    before = random.normal(size=300)
    after = 0.8 * before + random.normal(0, 0.05, size=300)
    found = compared(ROOT_SQUARE, np.abs(before), np.abs(after), higher_is_better=False)
    roots = [np.sqrt((errors**2).mean()) for errors in (before, after)]
    assert [found.before, found.after] == pytest.approx(roots)
    assert found.verdict == "better"
    # Of values in pairs, by the derivative of both roots (the delta method).
    error = (after**2 / (2 * roots[1]) - before**2 / (2 * roots[0])).std(ddof=1) / np.sqrt(300)
    expected = [found.change - 1.96 * error, found.change + 1.96 * error]
    assert [found.low, found.high] == pytest.approx(expected, abs=0.15 * error)
    assert replace(found, before=1257.4, after=1300.0).words[1:3] == ("1,257", "1,300")


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    random, held = np.random.default_rng(1), 0
    for _ in range(200):
        before = (random.random(300) < 0.8).astype(float)
        after = np.where(random.random(300) < 0.1, (random.random(300) < 0.9).astype(float), before)
        found = compared("accuracy", before, after, higher_is_better=True)
        held += found.low <= 0.1 * (0.9 - 0.8) <= found.high
    assert 180 <= held <= 199


@pytest.mark.parametrize(
    ("low", "high", "better", "words"),
    [
        (0.1, 0.2, True, "better"), (0.1, 0.2, False, "worse"), (-0.2, -0.1, False, "better"),
        (-0.1, 0.2, True, "no difference that could not be chance"),
        (0.0, 0.0, True, "no difference that could not be chance"),
    ],
)  # fmt: skip
def test_a_verdict_in_words(low: float, high: float, better: bool, words: str) -> None:
    assert Figure("accuracy", 0.5, 0.6, low, high, better).verdict == words


def test_it_comes_back_from_a_store_and_a_cut_one_is_none() -> None:
    place = Memory()
    assert Cleaned.of(place) is None
    made = Cleaned(now(), 3, 1, (Figure("accuracy", 0.5, 0.6, 0.05, 0.15, True),), ("a note",), {"report": "there"})
    made.keep(place)
    assert Cleaned.of(place) == made
    assert (
        "accuracy went from 50.00% to 60.00% (+10.00 points, 95 % interval +5.00 to +15.00 points): better"
        in made.verdict
    )
    place.content["cleaned.json"] = place.content["cleaned.json"][:-4]
    assert Cleaned.of(place) is None
    assert "not trained again" in replace(made, figures=()).verdict


def test_what_decisions_change() -> None:
    labels = np.array(["ant", "bee", "cat"])
    standing = {
        0: DECISION,
        1: replace(DECISION, what="relabel", old="bee", new="cat"),
        2: replace(DECISION, what="exclude", old="cat", new="cat"),
    }
    assert changes(standing, labels) == ({1: "cat"}, [2])
    assert changes({2: replace(DECISION, what="exclude", old="", new="")}, None) == ({}, [2])
    with pytest.raises(InputError, match="had the label 'ant' when it was decided about, and has 'bee' now"):
        changes({1: replace(DECISION, what="exclude")}, labels)
    with pytest.raises(InputError, match="the data have no labels"):
        changes({1: replace(DECISION, what="relabel", new="bee")}, None)


def test_two_examples_are_needed() -> None:
    with pytest.raises(InputError, match=r"^examples: two or more"):
        compared("accuracy", np.ones(1), np.ones(1), higher_is_better=True)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (2, 0), (5, 0), (6, 0), (0, 6), (9, 2), (10, 1), (30, 18)]
)
def test_an_accuracy_is_better_where_mcnemar_s_exact_test_says_so(gained: int, lost: int) -> None:
    before, after = np.zeros(540), np.zeros(540)
    before[100:], after[100:] = 1, 1
    after[:gained], after[539 - lost : 539] = 1, 0
    found = compared("accuracy", before, after, higher_is_better=True)
    p = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    expected = "no difference that could not be chance"
    if p < 0.05:
        expected = "better" if gained > lost else "worse"
    assert found.verdict == expected
    assert found.low - 1e-12 <= found.change <= found.high + 1e-12
