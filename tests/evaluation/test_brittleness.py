"""Brittleness on a model whose predictions are votes, so that every flip can be counted by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import upweight as uw
from figures import legend
from upweight import Attribution
from upweight.errors import InputError
from upweight.evaluation import Training, brittleness
from upweight.measurements import Loss
from upweight.quantities import meanings
from upweight.retraining import TrainingFailedError

AHEAD, BEHIND = (1, 3, 6), 4
"""Votes for class 1 beyond the 4 for class 0, in each of three groups; a tie is decided for class 0."""
GROUP = torch.cat([torch.full((BEHIND + ahead + BEHIND,), g) for g, ahead in enumerate(AHEAD)])
LABEL = torch.cat([torch.tensor([1] * (BEHIND + ahead) + [0] * BEHIND) for ahead in AHEAD])
X = F.one_hot(GROUP).double()
QUERIES = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.long)


def train(indices: Tensor, seed: int) -> nn.Module:
    """Logits are votes of the query's group; a seed moves both alike."""
    model = nn.Linear(3, 2, bias=False).double().eval()
    with torch.no_grad():
        model.weight.copy_(F.one_hot(LABEL[indices]).double().T @ X[indices] + seed)
    return model


@pytest.fixture
def influence() -> uw.Influence:
    everything = train(torch.arange(len(X)), 0)
    return uw.Influence(uw.Objective(everything, uw.losses.CrossEntropy(), (X, LABEL), l2=0.1))


@pytest.fixture
def votes() -> Attribution:
    """Scores that know: the votes for a query are helpful, those against it harmful."""
    same = QUERIES[0] @ X.T
    removal = meanings.removal(Loss(), uw.losses.CrossEntropy())
    return Attribution(same * (2 * LABEL - 1), removal, np.arange(len(X)), np.array(["a", "b", "c"]))


def test_predictions_flip_when_their_lead_is_gone(influence: uw.Influence, votes: Attribution) -> None:
    found = brittleness(influence, QUERIES, [1, 2, 3, 6], Training(train, (0, 5)), attribution=votes)
    leads = torch.tensor(AHEAD)
    assert found.flipped.tolist() == [(leads <= k).tolist() for k in (1, 2, 3, 6)]
    for row, k in enumerate((1, 2, 3, 6)):
        left = leads - (leads + BEHIND).clamp(max=k)  # a group has no more votes to take
        expected = F.softplus(-left.double()) - F.softplus(-leads.double())
        torch.testing.assert_close(found.loss_change[row], expected)
    assert found.models == 2 * (1 + 4 * (3 + 5))


def test_random_removals_are_judged_by_every_query(influence: uw.Influence, votes: Attribution) -> None:
    jobs: list[tuple[Tensor, int]] = []

    def recording(indices: Tensor, seed: int) -> nn.Module:
        jobs.append((indices, seed))
        return train(indices, seed)

    found = brittleness(influence, QUERIES, [2, 9], recording, attribution=votes, controls=4, seed=3)
    assert [len(X) - len(indices) for indices, _ in jobs] == [0] + [2] * 7 + [9] * 7
    for row, chosen in enumerate((jobs[4:8], jobs[11:15])):
        lead = torch.stack([X[i].T @ (2 * LABEL[i] - 1).double() for i, _ in chosen])
        torch.testing.assert_close(found.random_flipped[row], (lead <= 0).double().mean(0))
        expected = F.softplus(-lead).mean(0) - F.softplus(-torch.tensor(AHEAD).double())
        torch.testing.assert_close(found.random_loss_change[row], expected)
    again = brittleness(influence, QUERIES, [2, 9], train, attribution=votes, controls=4, seed=3)
    assert torch.equal(again.random_loss_change, found.random_loss_change)


def test_seeds_are_compared_with_the_whole_model_of_the_same_seed(influence: uw.Influence, votes: Attribution) -> None:
    def biased(indices: Tensor, seed: int) -> nn.Module:
        model = train(indices, 0)
        with torch.no_grad():
            model.weight[1] -= seed
        return model

    # With seed 2 every lead is two votes shorter: a is lost from the start, so only b can flip.
    found = brittleness(influence, QUERIES, 1, Training(biased, (0, 2)), attribution=votes)
    assert found.flipped.tolist() == [[0.5, 0.5, 0]]


def test_scores_are_the_influences_own_unless_given(influence: uw.Influence) -> None:
    with pytest.warns(uw.errors.NotStationaryWarning):
        found = brittleness(influence, QUERIES, 6, train)
    assert found.flipped.tolist() == [[1.0, 1.0, 1.0]]  # votes for the query are what influence finds helpful
    table = found.to_pandas()
    assert table[["k", "query", "flipped"]].values.tolist() == [[6, 0, 1.0], [6, 1, 1.0], [6, 2, 1.0]]


def test_figure_and_words_set_the_scores_beside_chance(influence: uw.Influence, votes: Attribution) -> None:
    found = brittleness(influence, QUERIES, [1, 3], train, attribution=votes)
    figure = found.figure(title="title")
    chosen, chance = figure.axes[0].lines
    np.testing.assert_allclose(chosen.get_ydata(), [1 / 3, 2 / 3])
    np.testing.assert_allclose(chance.get_ydata(), found.random_flipped.mean(1))
    assert legend(figure) == ["most helpful by the scores", "random"]
    assert "without the 3 most helpful: 66.7% flip" in repr(found)


@pytest.mark.parametrize(
    ("k", "options", "words"),
    [
        (0, {}, "k: (numbers|give a whole number from 1 to 33)"),
        ([2, 1], {}, "k: (numbers|give a whole number from 1 to 33)"),
        (len(X), {}, "k: give a whole number from 1 to 33; got 34"),
        ([], {}, "k: (numbers|give a whole number from 1 to 33)"),
        (1, {"controls": 0}, "controls: give a whole number of at least 1"),
    ],
)
def test_refuses(influence: uw.Influence, votes: Attribution, k: object, options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        brittleness(influence, QUERIES, k, train, attribution=votes, **options)  # type: ignore[arg-type]


def test_refuses_scores_of_others_and_what_is_no_model(influence: uw.Influence, votes: Attribution) -> None:
    with pytest.raises(InputError, match=r"attribution: got scores \(3, 34\); give \[2 queries"):
        brittleness(influence, (QUERIES[0][:2], QUERIES[1][:2]), 1, train, attribution=votes)
    with pytest.raises(TrainingFailedError, match=r"job 0.*must return the trained module"):
        brittleness(influence, QUERIES, 1, lambda indices, seed: None, attribution=votes)


def test_finished_models_are_taken_from_the_folder(influence: uw.Influence, votes: Attribution, tmp_path: Path) -> None:
    done = tmp_path / "done"

    def once(indices: Tensor, seed: int) -> nn.Module:
        assert not done.exists()
        return train(indices, seed)

    training = Training(once, folder=tmp_path / "models")
    first = brittleness(influence, QUERIES, 2, training, attribution=votes)
    done.touch()
    again = brittleness(influence, QUERIES, 2, training, attribution=votes)
    assert torch.equal(again.loss_change, first.loss_change)
