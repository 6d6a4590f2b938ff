"""The result: what a number is, and who ranks where."""

import numpy as np
import pytest
import torch

import upweight as uw
from problems import DOUBLE, close, convex
from upweight.attribution import Attribution, Quantity
from upweight.errors import InputError
from upweight.measurements import Function, LogProbability, Loss, Margin
from upweight.quantities import meanings

SCORES = torch.tensor([[0.5, -1.0, 2.0, 0.5], [0.0, 3.0, -2.0, 0.0]], dtype=DOUBLE)


def attribution(sign=1, scores=SCORES, ids=("a", "b", "c", "d"), query_ids=(10, 20), **options):
    quantity = Quantity("removal", "what it is", "nats", "good", sign)
    return Attribution(scores, quantity, np.array(ids), np.array(query_ids), **options)


@pytest.mark.parametrize(
    ("sign", "top", "bottom", "titles"),
    [
        (1, ["c", "a", "d"], ["b", "a", "d"], ("most helpful", "most harmful")),
        (-1, ["b", "a", "d"], ["c", "a", "d"], ("most helpful", "most harmful")),
        (0, ["c", "a", "d"], ["b", "a", "d"], ("largest", "smallest")),
    ],
)
def test_top_is_helpful_and_bottom_harmful_whatever_the_sign_and_ties_keep_their_order(sign, top, bottom, titles):
    result = attribution(sign)
    assert result.top(3).ids[0].tolist() == top
    assert result.bottom(3).ids[0].tolist() == bottom
    assert result.top(1).title.startswith(titles[0])
    assert result.bottom(1).title.startswith(titles[1])
    close(result.top(3).scores, SCORES.gather(1, result.top(3).positions))


def test_many_ties_rank_by_position():
    scores = (torch.arange(5000) % 3).double()[None]
    result = attribution(scores=scores, ids=range(5000), query_ids=(0,))
    assert result.top(1000).positions[0].tolist() == list(range(2, 3002, 3))
    assert result.bottom(1000).positions[0].tolist() == list(range(0, 3000, 3))


@pytest.mark.parametrize("measurement", [None, "margin", "log-probability"])
def test_helpful_examples_are_on_top_by_retraining_for_losses_and_margins(measurement):
    problem = convex("logistic", n=60)
    influence = uw.Influence(problem.objective())
    result = influence.attribute(problem.queries, measurement=measurement)
    theta = problem.theta
    for query in range(3):
        for ranking, worse in ((result.top(1), True), (result.bottom(1), False)):
            i = int(ranking.positions[query, 0])
            without = problem.optimum(problem.counts_without(i))
            change = problem.query_losses(without)[query] - problem.query_losses(theta)[query]
            assert (change > 0) == worse


@pytest.mark.parametrize("measurement", ["loss", "margin"])
def test_upweighting_ranks_like_removal(measurement):
    problem = convex("logistic")
    influence = uw.Influence(problem.objective())
    removal, upweight = (
        influence.attribute(problem.queries, quantity=quantity, measurement=measurement)
        for quantity in ("removal", "upweight")
    )
    assert torch.equal(removal.top(5).positions, upweight.top(5).positions)
    assert torch.equal(removal.bottom(5).positions, upweight.bottom(5).positions)


def test_more_than_there_are_is_all_of_them():
    assert attribution().top(99).ids.shape == (2, 4)


def test_five_are_shown_unless_told():
    many = attribution(scores=torch.arange(20, dtype=DOUBLE).view(2, 10), ids=list("abcdefghij"))
    assert many.top().ids.tolist() == [list("jihgf")] * 2
    assert many.bottom().ids.tolist() == [list("abcde")] * 2


@pytest.mark.parametrize("k", [0, -1])
def test_at_least_one_is_asked_for(k):
    with pytest.raises(InputError, match=f"k: give a whole number of at least 1; got {k}"):
        attribution().top(k)


@pytest.mark.parametrize(
    ("measurement", "words", "positive", "sign"),
    [
        (Loss(), "query's loss", "helpful: the loss rises without it", 1),
        (Margin(), "query's margin", "harmful: the margin rises without it", -1),
        (LogProbability(), "query's log-probability", "harmful", -1),
        (Function(lambda model, batch: batch), "query's measurement", "pulled the value down", 0),
    ],
)
def test_a_removal_says_what_it_is_in_words(measurement, words, positive, sign):
    loss = uw.losses.CrossEntropy()
    quantity = meanings.removal(measurement, loss)
    assert words in quantity.words
    assert "left out" in quantity.words
    assert "keep their weight 1/n" in quantity.words
    assert positive in quantity.positive
    assert quantity.helpful_sign == sign
    assert "mean is taken over the examples left" in meanings.removal(measurement, loss, renormalize=True).words
    assert "leverage" in meanings.removal(measurement, loss, leverage=True).name
    up = meanings.upweight(measurement, loss)
    assert "per unit of ε" in up.unit
    assert up.helpful_sign == -sign


def test_units_are_those_of_the_loss():
    assert uw.Influence(convex("ridge").objective()).self_influence().quantity.unit == "squared units of the target"
    assert uw.Influence(convex("softmax").objective()).self_influence().quantity.unit == "nats"


def test_a_table_has_queries_as_rows_and_ids_as_columns():
    frame = attribution().to_pandas()
    assert frame.loc[20, "b"] == 3.0
    assert (frame.index.name, frame.columns.name) == ("query", "id")
    own = attribution(scores=SCORES[0], query_ids=()).to_pandas()
    assert own.loc["c", "removal"] == 2.0
    ranking = attribution().top(2).to_pandas()
    assert ranking["rank"].tolist() == [1, 2, 1, 2]
    assert ranking["query"].tolist() == [10, 10, 20, 20]
    assert ranking["id"].tolist() == ["c", "a", "b", "a"]
    assert ranking["position"].tolist() == [2, 0, 1, 0]
    assert ranking["score"].tolist() == [2.0, 0.5, 3.0, 0.0]


def test_scores_must_fit_their_ids():
    with pytest.raises(InputError, match=r"shape \(2, 4\) does not match ids \(2, 3\)"):
        attribution(ids=("a", "b", "c"))


def test_a_result_says_what_it_is_where_it_came_from_and_who_ranks_first():
    result = attribution(report="dense cholesky", facts={"n": 4.0}, damping=0.1)
    text = repr(result)
    for part in ("[2 × 4] (queries × train)", "removal: what it is", "unit: nats", "positive: good"):
        assert part in text
    for part in ("solver: dense cholesky", "n 4", "query 10: c (+2), a (+0.5), d (+0.5)", "most harmful"):
        assert part in text
    many = attribution(scores=SCORES.repeat(3, 1), query_ids=range(6))
    assert "… and 3 more queries" in repr(many)
    assert "[4] (train)" in repr(attribution(scores=SCORES[0], query_ids=()))


def test_ids_name_examples_and_queries():
    problem = convex("softmax")
    names = [f"train/{i}" for i in range(problem.n)]
    influence = uw.Influence(problem.objective(ids=names))
    result = influence.attribute(problem.queries, train=[4, 2], query_ids=list("vwxyz"))
    assert result.ids.tolist() == ["train/4", "train/2"]
    assert result.query_ids.tolist() == list("vwxyz")
    assert influence.self_influence().ids.tolist() == names
    close(result.to_pandas().loc["w", "train/2"], result.scores[1, 1])
    assert result.facts["n"] == problem.n
    assert result.facts["p"] == 12


def test_relative_scores_are_cosines_in_the_metric_of_the_inverse():
    problem = convex("softmax")
    influence = uw.Influence(problem.objective())
    found = influence.attribute(problem.queries)
    relative = found.relative_to(influence.self_influence())
    hessian, gradients, wanted = problem.hessian(), problem.gradients(), problem.query_gradients()
    inverse = torch.linalg.inv(hessian + influence.solver.damping * torch.eye(len(hessian), dtype=DOUBLE))
    lengths = ((gradients @ inverse) * gradients).sum(1).sqrt()
    cosines = wanted @ inverse @ gradients.T / lengths / problem.n**0.5
    close(relative.scores, cosines)
    assert relative.quantity.helpful_sign == 1
    assert not relative.magnitude.trusted
    with pytest.raises(InputError, match="own: got scores"):
        found.relative_to(found)
