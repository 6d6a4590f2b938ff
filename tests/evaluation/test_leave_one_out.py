"""Agreement with leaving out one by one: pooled, query by query, and the overlap of the largest."""

import numpy as np
import pytest
import torch
from scipy import stats

from upweight import Attribution
from upweight.errors import InputError
from upweight.evaluation import LeaveOneOut, agreement
from upweight.evaluation.correlation import ConstantWarning
from upweight.losses import CrossEntropy
from upweight.measurements import Loss
from upweight.quantities import meanings


@pytest.fixture
def pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    predicted = rng.normal(size=(12, 30))
    return predicted, 1.5 * predicted + rng.normal(size=predicted.shape)


def test_pooled_figures_are_those_of_agreement_and_queries_those_of_scipy(pairs: tuple) -> None:
    predicted, actual = pairs
    metric = LeaveOneOut(top=5)
    metric.update(predicted, actual)
    found = metric.compute()
    pooled = agreement(predicted, actual)
    assert found.pooled == pooled
    assert [float(each) for each in (found.pearson, found.spearman, found.slope)] == [
        pooled.pearson,
        pooled.spearman,
        pooled.slope,
    ]
    for name, scipy in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        expected = [scipy(*row).statistic for row in zip(predicted, actual, strict=True)]
        np.testing.assert_allclose(getattr(found, f"query_{name}"), expected)
    np.testing.assert_allclose(
        found.query_slope, [stats.linregress(*row).slope for row in zip(predicted, actual, strict=True)]
    )
    assert float(found.mean_spearman) == pytest.approx(found.query_spearman.mean())
    assert "slope" in repr(found)


def test_overlap_counts_the_largest_changes_of_either_sign() -> None:
    metric = LeaveOneOut(top=2)
    metric.update([[5.0, -4.0, 1.0, 0.0], [5.0, -4.0, 1.0, 0.0]], [[1.0, -9.0, 8.0, 0.0], [-9.0, 8.0, 1.0, 0.0]])
    found = metric.compute()
    assert found.overlap.tolist() == [0.5, 1.0]
    assert float(found.mean_overlap) == 0.75
    assert found.chance == 0.5


def test_intervals_hold_the_truth_of_normal_pairs(rng: np.random.Generator) -> None:
    held = np.zeros(3)
    for _ in range(40):
        predicted = rng.normal(size=(10, 20))
        metric = LeaveOneOut(resamples=60)
        metric.update(predicted, 2 * predicted + 2 * rng.normal(size=predicted.shape))
        found = metric.compute()
        truth = np.sqrt(0.5), 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2), 2.0
        for i, (each, value) in enumerate(zip((found.pearson, found.spearman, found.slope), truth, strict=True)):
            held[i] += each.interval.low <= value <= each.interval.high
    assert (held >= 34).all()


def test_batches_of_queries_are_one_update(pairs: tuple) -> None:
    predicted, actual = pairs
    whole, parts, other = LeaveOneOut(), LeaveOneOut(), LeaveOneOut()
    whole.update(predicted, actual)
    parts.update(predicted[0], actual[0])  # a single query may come without its dimension
    other.update(torch.from_numpy(predicted[1:]), torch.from_numpy(actual[1:]))
    fresh = LeaveOneOut()
    fresh.load_state_dict(other.state_dict())
    parts.merge(fresh)
    assert repr(parts.compute()) == repr(whole.compute())
    with pytest.raises(InputError, match="was made with other top"):
        parts.merge(LeaveOneOut(top=3))


def test_one_query_has_intervals_over_its_examples_but_none_over_queries(pairs: tuple) -> None:
    metric = LeaveOneOut()
    metric.update(pairs[0][:1], pairs[1][:1])
    found = metric.compute()
    assert found.pearson.interval.low < float(found.pearson) < found.pearson.interval.high
    assert np.isnan(found.mean_overlap.interval.low)


def test_takes_an_attribution_and_counts_constant_queries(pairs: tuple) -> None:
    predicted, actual = pairs
    scores = torch.from_numpy(predicted.copy())
    scores[3] = 0.0
    removal = meanings.removal(Loss(), CrossEntropy())
    metric = LeaveOneOut()
    metric.update(Attribution(scores, removal, np.arange(30), np.arange(12)), actual)
    with pytest.warns(ConstantWarning, match="undefined for 1 of 12"):
        found = metric.compute()
    kept = np.arange(12) != 3
    expected = [stats.spearmanr(*row).statistic for row in zip(predicted[kept], actual[kept], strict=True)]
    assert float(found.mean_spearman) == pytest.approx(np.mean(expected))
    assert found.query_slope.isnan().tolist() == (~kept).tolist()


@pytest.mark.parametrize(
    ("predicted", "actual", "words"),
    [
        (np.ones((2, 12)), np.ones((2, 11)), "got shapes"),
        (np.ones((2, 9)), np.ones((2, 9)), "top-10 overlap needs"),
        (np.full((1, 12), np.nan), np.ones((1, 12)), "predicted: 12 of 12"),
        (np.ones((1, 1, 12)), np.ones((1, 1, 12)), "queries, examples"),
    ],
)
def test_refuses(predicted: np.ndarray, actual: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        LeaveOneOut().update(predicted, actual)


def test_refuses_another_number_of_examples_and_a_top_of_none() -> None:
    metric = LeaveOneOut(top=2)
    metric.update(np.eye(3), np.eye(3))
    with pytest.raises(InputError, match="got 4 examples a query, but 3"):
        metric.update(np.eye(4), np.eye(4))
    with pytest.raises(InputError, match="top: give a whole number of at least 1"):
        LeaveOneOut(top=0)
