"""Rise of a query's loss, on a model whose logits are votes: every removal can be counted by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from figures import texts
from upweight import Attribution
from upweight.errors import InputError
from upweight.evaluation import Training, query_loss_rise
from upweight.measurements import Loss
from upweight.quantities import meanings

AHEAD = (2, 5)
"""Votes for class 1 beyond the 10 for class 0, in each of two groups."""
GROUP = torch.cat([torch.full((20 + ahead,), g) for g, ahead in enumerate(AHEAD)])
LABEL = torch.cat([torch.tensor([1] * (10 + ahead) + [0] * 10) for ahead in AHEAD])
X = F.one_hot(GROUP).double()
N = len(X)
QUERIES = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.long)


def train(indices: Tensor, seed: int) -> nn.Module:
    """Logits are votes of the query's group, times the seed and one."""
    model = nn.Linear(2, 2, bias=False).double().eval()
    with torch.no_grad():
        model.weight.copy_((1 + seed) * F.one_hot(LABEL[indices], 2).double().T @ X[indices])
    return model


@pytest.fixture
def influence() -> uw.Influence:
    return uw.Influence(uw.Objective(train(torch.arange(N), 0), uw.losses.CrossEntropy(), (X, LABEL), l2=0.1))


def known(sign: int = 1) -> Attribution:
    """Scores that know who votes for the query."""
    removal = meanings.removal(Loss(), uw.losses.CrossEntropy())
    same = QUERIES[0] @ X.T
    return Attribution(sign * same * (2 * LABEL - 1), removal, np.arange(N), np.array(["a", "b"]))


def test_rises_are_those_of_the_votes_that_are_gone(influence: uw.Influence) -> None:
    jobs: list[tuple[Tensor, int]] = []

    def recording(indices: Tensor, seed: int) -> nn.Module:
        jobs.append((indices, seed))
        return train(indices, seed)

    given = {"helpful": known(), "harmful": known(-1)}
    training = Training(recording, (0, 1))
    found = query_loss_rise(influence, QUERIES, training, attributions=given, share=0.07, controls=3, seed=4)
    removed = round(0.07 * N)
    assert found.removed == removed == 3
    assert found.models == len(jobs) == 2 * (1 + 3 + 4)
    lead = torch.tensor(AHEAD).double()
    for seed in (0, 1):
        whole = F.softplus(-(1 + seed) * lead)
        torch.testing.assert_close(found.before[seed], whole)
        without = F.softplus(-(1 + seed) * (lead - removed)) - whole
        torch.testing.assert_close(found.change["helpful"][seed], without)
        torch.testing.assert_close(found.change["harmful"][seed], F.softplus(-(1 + seed) * (lead + removed)) - whole)
        random = [indices for indices, of in jobs if of == seed][1:4]
        votes = torch.stack([X[i].T @ (2 * LABEL[i] - 1).double() for i in random])
        torch.testing.assert_close(found.random_change[seed], F.softplus(-(1 + seed) * votes) - whole)
    expected = found.change["helpful"] - found.random_change.mean(1)
    torch.testing.assert_close(found.rises("helpful"), expected)
    rise = found.rise("helpful")
    assert rise.value == pytest.approx(float(expected.mean()))
    assert rise.interval.low < rise.value < rise.interval.high
    assert float(found.difference("helpful", "harmful")) > 0
    assert "helpful" in texts(found.figure(title="title"))
    assert "without their top 3 examples" in repr(found)
    table = found.to_pandas()
    assert len(table) == 2 * 2 * 2
    assert table["rise"].to_numpy()[:4] == pytest.approx(expected.flatten().numpy())


def test_scores_are_the_influences_own_unless_given(influence: uw.Influence) -> None:
    with pytest.warns(uw.errors.NotStationaryWarning):
        found = query_loss_rise(influence, QUERIES, train, share=0.07, controls=2)
    assert list(found.change) == ["influence"]
    torch.testing.assert_close(
        found.change["influence"],
        query_loss_rise(influence, QUERIES, train, attributions=known(), share=0.07).change["influence"],
    )
    assert float(found.rise()) > 0


def test_at_least_one_example_goes_and_one_query_has_no_interval(influence: uw.Influence) -> None:
    one = QUERIES[0][:1], QUERIES[1][:1]
    scores = known()
    alone = Attribution(scores.scores[:1], scores.quantity, scores.ids, scores.query_ids[:1])
    found = query_loss_rise(influence, one, train, attributions=alone, share=1e-6, controls=1)
    assert found.removed == 1
    assert np.isnan(found.rise().interval.low)
    assert found.figure() is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 0.0}, "share"),
        ({"share": 1.0}, "share"),
        ({"controls": 0}, "controls"),
        ({"attributions": {}}, "attributions: give at least one"),
    ],
)
def test_refuses(influence: uw.Influence, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        query_loss_rise(influence, QUERIES, train, **{"attributions": known(), **options})


def test_refuses_scores_of_other_queries(influence: uw.Influence) -> None:
    with pytest.raises(InputError, match=r"attributions\['influence'\]: got scores \(2, 47\); give \[1 queries, 47"):
        query_loss_rise(influence, (QUERIES[0][:1], QUERIES[1][:1]), train, attributions=known())
