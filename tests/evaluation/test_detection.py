"""Detection of flipped labels: areas by counting pairs, recovery by checking in order."""

import numpy as np
import pytest
import torch
from scipy import stats

from figures import legend, texts
from upweight import Attribution, Quantity
from upweight.errors import InputError
from upweight.evaluation import MislabelDetection
from upweight.evaluation.detection import recovered


@pytest.fixture
def updates(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores with ties, and flips that they tell, for four seeds of different sizes."""
    made = []
    for n in (60, 60, 80, 100):
        flipped = rng.random(n) < 0.2
        made.append((np.round(rng.normal(size=n) + 1.5 * flipped, 1), flipped))
    return made


def test_areas_count_pairs_and_ranks(updates: list) -> None:
    metric = MislabelDetection()
    for update in updates:
        metric.update(*update)
    found = metric.compute()
    for i, (scores, flipped) in enumerate(updates):
        gaps = scores[flipped][:, None] - scores[~flipped]
        assert float(found.aucs[i]) == pytest.approx((gaps > 0).mean() + 0.5 * (gaps == 0).mean())
        at_or_above = (scores[None] >= scores[flipped][:, None]).astype(float)
        assert float(found.average_precisions[i]) == pytest.approx((at_or_above @ flipped / at_or_above.sum(1)).mean())
    interval = stats.t.interval(0.95, 3, found.aucs.mean().item(), stats.sem(found.aucs.numpy()))
    assert (found.auc.interval.low, min(found.auc.interval.high, 1)) == pytest.approx(
        (interval[0], min(interval[1], 1))
    )
    assert float(found.auc) == pytest.approx(found.aucs.mean().item())
    assert found.flipped_share == pytest.approx(np.mean([flipped.mean() for _, flipped in updates]))


def test_recovery_is_the_average_of_random_orders_among_equal_scores(rng: np.random.Generator) -> None:
    scores, flipped = rng.integers(4, size=20).astype(float), rng.random(20) < 0.4
    shares = []
    for _ in range(4000):
        order = np.lexsort([rng.random(20), -scores])
        shares.append(np.cumsum(flipped[order]) / flipped.sum())
    np.testing.assert_allclose(recovered(scores, flipped, np.arange(1, 21) / 20), np.mean(shares, 0), atol=0.02)


def test_perfect_and_opposite_scores() -> None:
    flipped = np.arange(100) < 10
    for scores, auc, early in ((flipped.astype(float), 1.0, [0.5, 1.0]), (-flipped.astype(float), 0.0, [0.0, 0.0])):
        metric = MislabelDetection(fractions=(0.05, 0.1))
        metric.update(scores, flipped)
        found = metric.compute()
        assert (float(found.auc), found.recovery[0].tolist()) == (auc, pytest.approx(early))
        assert np.isnan(found.auc.interval.low)
        assert [float(share) for share in found.recovered()] == pytest.approx(early)


def test_order_of_examples_is_free_and_state_moves(updates: list, rng: np.random.Generator) -> None:
    whole, first, second = MislabelDetection(), MislabelDetection(), MislabelDetection()
    for i, (scores, flipped) in enumerate(updates):
        whole.update(scores, flipped)
        order = rng.permutation(len(scores))
        (first if i < 2 else second).update(torch.from_numpy(scores[order]), torch.from_numpy(flipped[order]))
    copy = MislabelDetection(fractions=(0.5,))  # what is reported may differ: the records are the scores
    copy.load_state_dict(second.state_dict())
    first.merge(copy)
    assert repr(first.compute()) == repr(whole.compute())


def test_takes_an_attribution_without_queries() -> None:
    quantity = Quantity("loss", "loss", "nats", "", 0)
    metric = MislabelDetection()
    metric.update(
        Attribution(torch.tensor([3.0, 1.0, 2.0]), quantity, np.arange(3), np.array([])), [True, False, False]
    )
    assert float(metric.compute().auc) == 1.0


def test_figure_shows_mean_recovery_with_its_interval(updates: list) -> None:
    metric = MislabelDetection()
    metric.update(*updates[0])
    assert not metric.compute().figure().axes[0].collections
    metric.update(*updates[1])
    found = metric.compute()
    figure = found.figure(title="title")
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata()[1:], found.recovery.mean(0))
    assert len(figure.axes[0].collections) == 1
    assert legend(figure) == ["these scores", "at random"]
    assert any("AUC" in text for text in texts(figure))


@pytest.mark.parametrize(
    ("scores", "flipped", "words"),
    [
        ([1.0, 2.0], [True, False, False], "flipped: got 3, but there are 2"),
        ([1.0, 2.0], [False, False], "none of 2"),
        ([1.0, 2.0], [True, True], "all 2 are True"),
        ([1.0, np.nan], [True, False], "scores: 1 of 2"),
        ([[1.0, 2.0]], [True, False], "scores: got shape"),
    ],
)
def test_refuses(scores: list, flipped: list, words: str) -> None:
    with pytest.raises(InputError, match=words):
        MislabelDetection().update(scores, flipped)


@pytest.mark.parametrize("options", [{"fractions": (0.5, 0.2)}, {"fractions": (0.0, 1.0)}, {"level": 1.5}])
def test_refuses_settings(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        MislabelDetection(**options)
