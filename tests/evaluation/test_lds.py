"""The linear datamodelling score against a slow loop, its invariances, and its ceiling in a simulation."""

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from figures import legend, texts
from upweight import Attribution
from upweight.errors import InputError
from upweight.evaluation import LDS
from upweight.evaluation.correlation import ConstantWarning
from upweight.losses import CrossEntropy
from upweight.measurements import Loss, Margin
from upweight.quantities import meanings

TRAIN, SUBSETS, QUERIES, SEEDS = 40, 25, 7, 3


@pytest.fixture
def subsets(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.permutation(TRAIN)[: rng.integers(15, 25)] for _ in range(SUBSETS)]


@pytest.fixture
def scores(rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.normal(size=(QUERIES, TRAIN)))


@pytest.fixture
def outcomes(rng: np.random.Generator, subsets: list[np.ndarray], scores: Tensor) -> Tensor:
    """Losses ``[subsets, seeds, queries]``, rounded so that the means over seeds tie."""
    exact = -np.stack([scores[:, members].sum(1).numpy() for members in subsets])
    return torch.from_numpy(np.round(exact[:, None] + 4 * rng.normal(size=(SUBSETS, SEEDS, QUERIES)), 0))


def score(subsets: object, *updates: tuple[object, object], **options: bool) -> float:
    metric = LDS(subsets, **options)
    for update in updates:
        metric.update(*update)
    return metric.compute().lds


def test_equals_a_loop_over_subsets_and_queries(subsets: list, scores: Tensor, outcomes: Tensor) -> None:
    metric = LDS(subsets)
    metric.update(scores, outcomes)
    found = metric.compute()
    expected = []
    for q in range(QUERIES):
        predicted = [-sum(float(scores[q, i]) for i in members) for members in subsets]
        expected.append(stats.spearmanr(predicted, [float(each[:, q].mean()) for each in outcomes]).statistic)
    np.testing.assert_allclose(found.per_query, expected)
    assert found.lds == pytest.approx(np.mean(expected))
    between = [
        stats.spearmanr(outcomes[:, a, q], outcomes[:, b, q]).statistic
        for q in range(QUERIES)
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert found.seed_agreement == pytest.approx(np.mean(between))
    assert found.ceiling == pytest.approx(math.sqrt(3 * np.mean(between) / (1 + 2 * np.mean(between))))
    assert (found.subsets, found.seeds) == (SUBSETS, SEEDS)


def test_two_seeds_that_agree_to_706_bound_the_score_at_910(rng: np.random.Generator) -> None:
    r = 2 * np.sin(np.pi / 6 * 0.706)  # of normal numbers whose ranks agree to .706
    common, own = rng.normal(size=(4000, 1, 2)), rng.normal(size=(4000, 2, 2))
    metric = LDS(np.eye(4000, 4000, dtype=bool), resamples=1)
    metric.update(np.zeros((2, 4000)) + np.arange(4000), math.sqrt(r) * common + math.sqrt(1 - r) * own)
    found = metric.compute()
    assert found.seed_agreement == pytest.approx(0.706, abs=0.02)
    assert found.ceiling == pytest.approx(0.91, abs=0.01)


def test_a_perfect_predictor_reaches_the_ceiling(rng: np.random.Generator) -> None:
    masks = rng.random((100, 60)) < 0.5
    truth = rng.normal(size=(200, 60))
    expected = -(truth @ masks.T).T
    noise = np.std(expected)
    metric = LDS(masks)
    metric.update(truth, expected[:, None] + noise * rng.normal(size=(100, 2, 200)))
    found = metric.compute()
    assert found.lds == pytest.approx(found.ceiling, abs=0.02)
    assert found.interval.low < found.lds < found.interval.high
    assert found.ceiling < 0.9


def test_intervals_over_both_are_wider_than_over_either(subsets: list, scores: Tensor, outcomes: Tensor) -> None:
    metric = LDS(subsets, resamples=2000)
    metric.update(scores, outcomes)
    found = metric.compute()
    width, queries, drawn = (each.high - each.low for each in (found.interval, found.over_queries, found.over_subsets))
    assert width > max(queries, drawn)
    assert width < queries + drawn


def test_an_interval_holds_the_score_of_other_subsets(rng: np.random.Generator) -> None:
    truth, held = rng.normal(size=(40, 30)), 0
    guess = truth + 1.5 * rng.normal(size=truth.shape)
    expected = np.mean([6 / np.pi * np.arcsin(np.corrcoef(*pair)[0, 1] / 2) for pair in zip(truth, guess, strict=True)])
    for _ in range(40):
        masks = rng.random((60, 30)) < 0.5
        metric = LDS(masks, resamples=60)
        metric.update(guess, -(truth @ masks.T).T)
        interval = metric.compute().over_subsets
        held += interval.low <= expected <= interval.high
    assert held >= 34


def test_batches_of_queries_are_one_update(subsets: list, scores: Tensor, outcomes: Tensor) -> None:
    whole, parts = LDS(subsets), LDS(subsets)
    whole.update(scores, outcomes)
    for rows in (slice(0, 1), slice(1, 5), slice(5, None)):
        parts.update(scores[rows], outcomes[:, :, rows])
    assert repr(whole.compute()) == repr(parts.compute())
    np.testing.assert_array_equal(whole.compute().per_query, parts.compute().per_query)


def test_order_of_training_examples_queries_and_subsets_is_free(
    subsets: list, scores: Tensor, outcomes: Tensor, rng: np.random.Generator
) -> None:
    expected = score(subsets, (scores, outcomes))
    order = rng.permutation(TRAIN)
    moved = [np.argsort(order)[members] for members in subsets]
    assert score(moved, (scores[:, order], outcomes)) == pytest.approx(expected, abs=1e-12)
    order = rng.permutation(QUERIES)
    assert score(subsets, (scores[order], outcomes[:, :, order])) == pytest.approx(expected, abs=1e-12)
    order = rng.permutation(SUBSETS)
    assert score([subsets[s] for s in order], (scores, outcomes[order])) == pytest.approx(expected, abs=1e-12)


def test_masks_index_arrays_and_one_seed_are_read_alike(subsets: list, scores: Tensor, outcomes: Tensor) -> None:
    masks = np.zeros((SUBSETS, TRAIN), dtype=bool)
    for row, members in zip(masks, subsets, strict=True):
        row[members] = True
    expected = score(subsets, (scores, outcomes.mean(1)))
    assert expected == score(torch.from_numpy(masks), (scores.float().double(), outcomes.mean(1, keepdim=True)))
    assert expected == score([torch.from_numpy(members) for members in subsets], (scores, outcomes.mean(1)))


def attribution(scores: Tensor, quantity: object) -> Attribution:
    return Attribution(scores, quantity, np.arange(TRAIN), np.arange(QUERIES))  # type: ignore[arg-type]


def test_signs_come_from_the_quantity(subsets: list, scores: Tensor, outcomes: Tensor) -> None:
    expected = score(subsets, (scores, outcomes))
    assert expected > 0.5
    removal, upweight = (make(Loss(), CrossEntropy()) for make in (meanings.removal, meanings.upweight))
    assert score(subsets, (attribution(scores, removal), outcomes)) == expected
    assert score(subsets, (attribution(-TRAIN * scores, upweight), outcomes)) == pytest.approx(expected)
    # The margin falls without a helpful example, and it is a larger margin that is better.
    margin = attribution(-scores, meanings.removal(Margin(), CrossEntropy()))
    assert score(subsets, (margin, outcomes)) == expected
    assert score(subsets, (margin, -outcomes), higher_is_better=True) == pytest.approx(expected)
    unsaid = dataclasses.replace(removal, helpful_sign=0)
    with pytest.raises(InputError, match="doesn't say whether large scores are helpful"):
        LDS(subsets).update(attribution(scores, unsaid), outcomes)


def test_constant_queries_are_counted_and_left_out(subsets: list, scores: Tensor, outcomes: Tensor) -> None:
    expected = score(subsets, (scores[2:], outcomes[:, :, 2:]))
    scores[0], outcomes[:, :, 1] = 0.0, 1.0
    metric = LDS(subsets)
    metric.update(scores, outcomes)
    with pytest.warns(ConstantWarning, match="undefined for 2 of 7"):
        found = metric.compute()
    assert found.lds == pytest.approx(expected)
    assert found.per_query.isnan().tolist() == [True, True] + [False] * 5
    metric.reset()
    metric.update(scores[:1], outcomes[:, :, :1])
    with pytest.warns(ConstantWarning, match="1 of 1"):
        assert math.isnan(metric.compute().lds)


def test_state_is_saved_loaded_and_merged(subsets: list, scores: Tensor, outcomes: Tensor) -> None:
    whole, first, second = LDS(subsets), LDS(subsets), LDS(subsets)
    whole.update(scores, outcomes)
    first.update(scores[:3], outcomes[:, :, :3])
    second.update(scores[3:], outcomes[:, :, 3:])
    file = io.BytesIO()
    torch.save(second.state_dict(), file)
    file.seek(0)
    loaded = LDS(subsets)
    loaded.update(scores[:1], outcomes[:, :, :1])  # replaced by what is loaded
    loaded.load_state_dict(torch.load(file, weights_only=True))
    first.merge(loaded)
    assert repr(first.compute()) == repr(whole.compute())
    assert len(loaded.compute().per_query) == 4
    first.reset()
    with pytest.raises(InputError, match="call update"):
        first.compute()
    for other in (LDS(subsets[::-1]), LDS(subsets, higher_is_better=True)):
        with pytest.raises(InputError, match="was made with other"):
            other.merge(whole)
        with pytest.raises(InputError, match="was made with other"):
            other.load_state_dict(whole.state_dict())


def test_figure_shows_mean_and_ceiling(subsets: list, scores: Tensor, outcomes: Tensor) -> None:
    metric = LDS(subsets)
    metric.update(scores, outcomes)
    found = metric.compute()
    figure = found.figure(title="title")
    assert "title" in texts(figure)
    assert f"≈ {found.ceiling:.3f}" in legend(figure)[1]
    assert f"mean {found.lds:.3f}" in legend(figure)[0]
    metric.reset()
    metric.update(scores, outcomes[:, 0])
    assert len(legend(metric.compute().figure())) == 1  # one seed has no ceiling


GOOD = [[0, 1], [1, 2], [0, 2]]


@pytest.mark.parametrize(
    ("subsets", "update", "words"),
    [
        (GOOD[:2], None, "at least 3"),
        ([[0], [1], []], None, r"subsets\[2\]"),
        ([[0, 0], [1], [2]], None, r"subsets\[0\].*distinct"),
        ([[-1], [1], [2]], None, r"subsets\[0\]"),
        ([[0.5], [1], [2]], None, r"subsets\[0\]"),
        (np.zeros((3, 2), dtype=bool), None, r"subsets\[0\]: give at least one"),
        ([[True, False], [True], [True]], None, "masks need one"),
        (np.zeros(3), None, "one row"),
        (3, None, "got int"),
        (GOOD, (np.ones((2, 2)), np.ones((3, 2))), "2 columns, but the subsets hold position 2"),
        (np.eye(3, dtype=bool), (np.ones((2, 4)), np.ones((3, 2))), "4 columns, but the subsets are masks of 3"),
        (GOOD, (np.ones((2, 3)), np.ones((2, 2))), r"outcomes: got shape \(2, 2\)"),
        (GOOD, (np.ones((2, 3)), np.ones((3, 1))), "3 subsets and 2 queries"),
        (GOOD, (np.ones((2, 3)), np.ones(6)), "outcomes: got shape"),
        (GOOD, (np.ones(3), np.ones((3, 1))), r"scores: got shape \(3,\)"),
        (GOOD, (np.full((1, 3), np.nan), np.ones((3, 1))), "scores: 3 of 3"),
        (GOOD, (np.ones((1, 3)), np.full((3, 1), np.inf)), "outcomes: 3 of 3"),
    ],
)
def test_refuses(subsets: object, update: tuple | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        LDS(subsets).update(*update)  # type: ignore[misc]


def test_refuses_another_number_of_seeds() -> None:
    metric = LDS(GOOD)
    metric.update(np.ones((2, 3)), np.ones((3, 2, 2)))
    with pytest.raises(InputError, match="got 1 seeds, but 2"):
        metric.update(np.ones((2, 3)), np.ones((3, 2)))
