"""MRR, recall and average precision by counting, with equal scores in every order, and beside scikit-learn."""

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

import upweight as uw
from upweight.errors import InputError
from upweight.evaluation import AUPRC, MRR, RecallAtK
from upweight.measurements import Loss
from upweight.quantities import meanings

SCORES = [[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4], [0.5, 0.9, 0.1, 0.2]]
RELEVANT = [[1, 3], [0], [0, 1, 2]]


def masks(positions, n):
    return [[i in row for i in range(n)] for row in positions]


def computed(metric, *updates):
    for update in updates:
        metric.update(*update)
    return metric.compute()


def test_reciprocal_ranks_are_those_of_the_first_relevant_example():
    found = computed(MRR(), (SCORES, RELEVANT))
    assert found.per_query.tolist() == [1 / 2, 1 / 4, 1]
    assert found.value == pytest.approx(7 / 12)
    assert found.interval.low <= found.value <= found.interval.high


def test_recall_is_the_share_of_the_relevant_among_the_first():
    assert computed(RecallAtK(2), (SCORES, RELEVANT)).per_query.tolist() == [1 / 2, 0, 2 / 3]
    assert computed(RecallAtK(1), (SCORES, RELEVANT)).per_query.tolist() == [0, 0, 1 / 3]
    assert computed(RecallAtK(9), (SCORES, RELEVANT)).per_query.tolist() == [1, 1, 1]


@pytest.mark.parametrize("kind", [MRR, lambda: RecallAtK(2), lambda: RecallAtK(3)])
def test_equal_scores_count_as_the_mean_over_their_orders(kind):
    relevant, scores = [1, 3], np.array([2.0, 1.0, 1.0, 1.0, 0.0])
    orders = [order for order in permutations(range(5)) if order[0] == 0 and order[-1] == 4]
    singly = [computed(kind(), ([[-order.index(i) for i in range(5)]], [relevant])).value for order in orders]
    assert computed(kind(), (scores[None], [relevant])).value == pytest.approx(np.mean(singly))


@pytest.mark.parametrize("kind", [MRR, lambda: RecallAtK(2)])
def test_at_random_is_the_mean_over_all_orders(kind):
    singly = [computed(kind(), ([list(order)], [[1, 3]])).value for order in permutations(range(4))]
    assert computed(kind(), (SCORES[:1], [[1, 3]])).at_random == pytest.approx(np.mean(singly))


@pytest.mark.parametrize("kind", [MRR, RecallAtK, AUPRC])
def test_masks_are_positions_and_updates_add_up(kind):
    whole = computed(kind(), (SCORES, RELEVANT))
    again = computed(kind(), (SCORES[:1], masks(RELEVANT[:1], 4)), (torch.tensor(SCORES[1:]), masks(RELEVANT[1:], 4)))
    assert torch.equal(whole.per_query, again.per_query)
    assert str(whole) == str(again)
    merged, other = kind(), kind()
    merged.update(SCORES[:2], RELEVANT[:2])
    other.update(SCORES[2:], RELEVANT[2:])
    merged.merge(other)
    assert str(merged.compute()) == str(whole)


def test_recalls_of_other_k_are_not_merged():
    with pytest.raises(InputError, match="other: was made with other k"):
        RecallAtK(3).merge(RecallAtK(2))


def test_an_attribution_says_which_sign_is_helpful():
    ids, names = np.arange(4), np.arange(3)
    loss = uw.losses.CrossEntropy()
    helped = uw.Attribution(torch.tensor(SCORES), meanings.removal(Loss(), loss), ids, names)
    pulled = uw.Attribution(-torch.tensor(SCORES), meanings.upweight(Loss(), loss), ids, names)
    expected = computed(MRR(), (SCORES, RELEVANT)).per_query
    assert torch.equal(computed(MRR(), (helped, RELEVANT)).per_query, expected)
    assert torch.equal(computed(MRR(), (pulled, RELEVANT)).per_query, expected)


def test_average_precision_is_scikit_learns(rng):
    scores, truth = rng.integers(0, 9, (5, 60)), rng.random((5, 60)) < 0.3
    expected = [average_precision_score(*pair) for pair in zip(truth, scores, strict=True)]
    found = computed(AUPRC(), (scores, truth))
    np.testing.assert_allclose(found.per_query, expected)
    assert found.at_random == pytest.approx(truth.mean(1).mean())
    assert found.interval.low < found.value < found.interval.high


def test_of_one_ranking_the_interval_is_over_examples(rng):
    truth = rng.random(400) < 0.2
    near, far = (computed(AUPRC(), (truth + spread * rng.normal(size=400), truth)) for spread in (0.1, 1.0))
    assert near.interval.high - near.interval.low < far.interval.high - far.interval.low < 0.4
    assert far.interval.low < far.value < far.interval.high


def test_intervals_hold_the_truth(rng):
    """The mean average precision over many draws lies in about 95 % of the intervals of single ones."""
    found = []
    for _ in range(60):
        truth = np.arange(300) < 60
        found.append(computed(AUPRC(resamples=200), (truth + 0.7 * rng.normal(size=300), truth)))
    mean = np.mean([each.value for each in found])
    assert np.mean([each.interval.low <= mean <= each.interval.high for each in found]) > 0.85


@pytest.mark.parametrize(
    ("relevant", "words"),
    [
        ([[0], [1]], "relevant: got .*; give one row for each of the 3 queries"),
        ([[0], [1], []], "relevant: no example is relevant to query 2"),
        ([[0], [1], [0, 1, 2, 3]], "relevant: every example is relevant to query 2"),
        ([[0], [4], [1]], r"relevant\[1\]: give 4 times True or False"),
        ([[0], [0.5], [1]], r"relevant\[1\]: give 4 times True or False"),
        ("abc", "relevant: got 'abc'"),
        (None, "relevant: got None"),
    ],
)
@pytest.mark.parametrize("kind", [MRR, RecallAtK, AUPRC])
def test_what_is_not_relevance_is_refused(kind, relevant, words):
    with pytest.raises(InputError, match=words):
        kind().update(SCORES, relevant)


def test_scores_must_be_numbers_and_there_must_be_some():
    with pytest.raises(InputError, match="scores: 1 of 2 values are not finite"):
        MRR().update([[np.nan, 1.0]], [[0]])
    with pytest.raises(InputError, match=r"MRR.compute: call update"):
        MRR().compute()
    with pytest.raises(InputError, match="k: give a whole number"):
        RecallAtK(0)
