"""Bad input of an influence is refused before work starts, by the argument's name, what was given and the mend."""

import math

import pytest
import torch.nn.functional as F

import upweight as uw
from problems import close
from spoiled import Examples, influence, softmax, spoiled
from upweight.errors import (
    InputError,
)

pytestmark = pytest.mark.usefixtures("unchecked")
ASKED = {
    "a quantity that there isn't": (
        lambda i, q: i.attribute(q, quantity="removed"),
        "quantity: one of 'removal', 'upweight'; got 'removed'",
    ),
    "upweight renormalised": (
        lambda i, q: i.attribute(q, quantity="upweight", renormalize=True),
        "quantity: renormalize and leverage_corrected belong to 'removal'",
    ),
    "both corrections": (
        lambda i, q: i.attribute(q, renormalize=True, leverage_corrected=True),
        "leverage_corrected: .*renormalize=False",
    ),
    "both corrections of self-influence": (
        lambda i, q: i.self_influence(renormalize=True, leverage_corrected=True),
        "leverage_corrected: .*renormalize=False",
    ),
    "an order that there isn't": (
        lambda i, q: i.group([0], q, order="third"),
        "order: 'first', 'second' or 'newton'; got 'third'",
    ),
    "a group of all": (
        lambda i, q: i.group(range(24), q, renormalize=True),
        "indices: the group is all 24 training examples",
    ),
    "positions out of range": (lambda i, q: i.attribute(q, train=[24]), "train: positions must be in 0 … 23"),
    "negative positions": (lambda i, q: i.parameters([-1]), "indices: positions must be in 0 … 23"),
    "the same position twice": (lambda i, q: i.group([1, 1], q), "indices: 1 is named 2 times; name it once"),
    "no positions": (lambda i, q: i.attribute(q, train=[]), "train: give at least one"),
    "an empty group": (lambda i, q: i.group([], q), "indices: give at least one"),
    "a training input that there isn't": (
        lambda i, q: i.perturbation(99, q),
        "index: give a whole number from 0 to 23; got 99",
    ),
    "NaN queries": (
        lambda i, q: i.attribute((spoiled(math.nan, 3), softmax().y)),
        "queries: array 0 has NaN .* position 3",
    ),
    "NaN queries in a dataset": (
        lambda i, q: i.attribute(Examples(spoiled(math.nan, 3), softmax().y)),
        "queries: the gradient of query 3 is NaN",
    ),
    "query labels out of range": (
        lambda i, q: i.attribute((q[0], q[1] + 3)),
        "CrossEntropy: targets range from 3 to",
    ),
    "negative query labels": (lambda i, q: i.attribute((q[0], q[1] - 7)), "CrossEntropy: targets range from -7"),
    "float query labels": (lambda i, q: i.attribute((q[0], q[1].double())), "needs integer class numbers"),
    "empty queries": (lambda i, q: i.attribute((q[0][:0], q[1][:0])), "queries: it is empty"),
    "too few query ids": (
        lambda i, q: i.attribute(q, query_ids=["a"]),
        r"query_ids: need 5, one per query; got shape \(1,\)",
    ),
    "too few query ids of a group": (
        lambda i, q: i.group([0], q, query_ids=["a"]),
        r"query_ids: need 5, one per query; got shape \(1,\)",
    ),
    "a measurement that there isn't": (lambda i, q: i.attribute(q, measurement="accuracy"), "measurement: 'accuracy'"),
    "a class that there isn't": (
        lambda i, q: i.attribute(q, measurement=uw.measurements.LogProbability(3)),
        "target 3 is not one of 3 classes",
    ),
    "new labels out of range": (lambda i, q: i.relabel([0], [3], q), "CrossEntropy: targets range from 3 to 3"),
    "float new labels": (lambda i, q: i.relabel([0], [1.0], q), "needs integer class numbers"),
    "too few new labels": (
        lambda i, q: i.relabel([0, 1], [1], q),
        "targets: need one for each of the 2 indices; got 1",
    ),
    "too few replacements": (
        lambda i, q: i.replacement([0, 1], (q[0][:1], q[1][:1]), q),
        "examples: need one for each of the 2 indices; got 1",
    ),
}


@pytest.mark.parametrize("mistake", ASKED)
def test_an_influence_refuses(mistake):
    ask, message = ASKED[mistake]
    with pytest.raises(InputError, match=message):
        ask(influence(), softmax().queries)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: uw.Influence(softmax().model), r"objective: got Linear; give upweight.Objective\(model, loss, data\)"),
        (lambda: uw.Influence(softmax().objective(), "cg"), "inverse: 'cg' is not one of upweight.inverse"),
    ],
)
def test_an_influence_needs_an_objective_and_an_inverse(make, message):
    with pytest.raises(InputError, match=message):
        make()


def own_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def test_what_needs_outputs_is_refused_for_a_plain_function():
    problem = softmax()
    objective = problem.objective(loss=uw.losses.Function(own_loss))
    with pytest.raises(InputError, match="GGN needs a loss with the split"):
        uw.Influence(objective, uw.inverse.CG(uw.curvature.GGN())).attribute(problem.queries)
    given = uw.Influence(objective, uw.inverse.Dense())
    with pytest.raises(InputError, match="Margin needs a loss with outputs"):
        given.attribute(problem.queries, measurement="margin")
    close(given.attribute(problem.queries).scores, influence().attribute(problem.queries).scores)
