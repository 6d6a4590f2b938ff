"""Bad input is refused before work starts; the message names the argument, what was given and the mend."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

import upweight as uw
from problems import DOUBLE, close, convex, mlp
from upweight.errors import (
    DivergedError,
    InputError,
    NegativeCurvatureError,
    NotConvergedWarning,
    NotStationaryWarning,
    SlowPathWarning,
    UpweightWarning,
)

pytestmark = pytest.mark.usefixtures("unchecked")


def softmax():
    return convex("softmax")


def spoiled(value, position=7):
    x = softmax().x.clone()
    x[position, 1] = value
    return x


class Examples(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Stream(IterableDataset):
    def __iter__(self):
        yield from Examples(softmax().x, softmax().y)


def nan_loss(model, batch):
    values = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
    return torch.where(batch[0][:, 0] == softmax().x[5, 0], math.nan, values)


def reduced(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def by_class(model, batch):
    return model(batch[0]).softmax(1)


def with_(**options):
    return lambda: softmax().objective(**options)


def frozen_model():
    model = nn.Linear(3, 3).to(DOUBLE)
    model.requires_grad_(False)
    return uw.Objective(model, uw.losses.CrossEntropy(), (softmax().x, softmax().y))


def nan_model():
    model = nn.Linear(3, 3).to(DOUBLE)
    nn.init.constant_(model.bias, math.nan)
    return uw.Objective(model, uw.losses.CrossEntropy(), (softmax().x, softmax().y))


def in_inference_mode():
    with torch.inference_mode():
        return softmax().objective()


CE = uw.losses.CrossEntropy()
REFUSED = {
    "NaN input": (
        lambda: softmax().objective(data=(spoiled(math.nan), softmax().y)),
        "data: array 0 has NaN or infinite values in 1 examples, first at position 7; drop or fill",
    ),
    "infinite input": (
        lambda: softmax().objective(data=(spoiled(math.inf), softmax().y)),
        "data: array 0 has NaN or infinite values in 1 examples, first at position 7",
    ),
    "NaN input in a dataset": (
        lambda: softmax().objective(data=Examples(spoiled(math.nan), softmax().y), batch_size=3),
        "loss: NaN or infinite .* first at position 7",
    ),
    "NaN loss": (with_(loss=nan_loss, batch_size=4), "loss: NaN or infinite .* first at position 5"),
    "NaN parameters": (nan_model, "model: parameter 'bias' holds NaN or infinite values; give a trained model"),
    "labels out of range": (
        lambda: softmax().objective(data=(softmax().x, softmax().y + 1)),
        "CrossEntropy: targets range from . to 3, but the model has 3 outputs",
    ),
    "float labels": (
        lambda: softmax().objective(data=(softmax().x, softmax().y.double())),
        "CrossEntropy: targets are torch.float64; it needs integer class numbers",
    ),
    "empty data": (
        lambda: softmax().objective(data=(softmax().x[:0], softmax().y[:0])),
        "data: it is empty",
    ),
    "everything frozen": (frozen_model, r"parameters: none of the model's 2 parameters is selected \(p = 0\)"),
    "pattern that matches nothing": (
        with_(parameters=["head.*"]),
        r"parameters: 'head.\*' matches no parameter; the model has \['weight', 'bias'\]",
    ),
    "loss already reduced": (with_(loss=reduced), r"loss: returned shape \(\) .*already reduced; use reduction='none'"),
    "loss of several values": (with_(loss=by_class), r"loss: returned shape \(2, 3\) for 2 examples, expected \(2,\)"),
    "loss that is no tensor": (with_(loss=lambda model, batch: 1.0), "loss: must return a tensor .*; got float"),
    "loss class": (
        with_(loss=uw.losses.CrossEntropy),
        r"loss: CrossEntropy is a class; give an instance, CrossEntropy\(\)",
    ),
    "loss module": (
        with_(loss=nn.L1Loss()),
        "loss: L1Loss .*has already reduced them.*Give one of upweight",
    ),
    "iterable dataset": (with_(data=Stream()), "data: Stream is iterable without length .*map-style"),
    "DataLoader": (
        lambda: softmax().objective(data=DataLoader(Examples(softmax().x, softmax().y))),
        r"data: a DataLoader was given; give its dataset \(loader.dataset\)",
    ),
    "arrays of different length": (
        lambda: softmax().objective(data=(softmax().x, softmax().y[:-1])),
        r"data: .*same number of examples.*\(24, 3\), \(23,\)",
    ),
    "duplicate ids": (with_(ids=["a"] * 2 + list(range(22))), "ids: must be unique; .*'a'.* stands 2 times"),
    "too few ids": (with_(ids=range(23)), r"ids: need 24, one per training example; got shape \(23,\)"),
    "negative l2": (with_(l2=-0.1), "l2: give a finite number ≥ 0; got -0.1"),
    "NaN l2": (with_(l2=math.nan), "l2: give a finite number ≥ 0; got nan"),
    "l2 for nothing": (with_(l2={"head": 0.1}), "l2: 'head' matches none of the parameters"),
    "negative weights": (with_(weights=[-1.0] * 24), "weights: need 24 finite numbers ≥ 0"),
    "too few weights": (with_(weights=[1.0] * 23), r"weights: need 24 .*got shape \(23,\)"),
    "no model": (
        lambda: uw.Objective(lambda x: x, CE, (softmax().x, softmax().y)),
        "model: got function; give a torch",
    ),
    "inference mode": (in_inference_mode, r"model: nothing can be differentiated under torch.inference_mode\(\)"),
    "no batches": (with_(batch_size=0), "batch_size: give a whole number of at least 1; got 0"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_an_objective_refuses(mistake):
    make, message = REFUSED[mistake]
    with pytest.raises(InputError, match=message):
        make()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 3, num_layers=2, dropout=0.5)

    def forward(self, x):
        return self.rnn(x[None])[0][0]


class FunctionalDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return F.dropout(self.layer(x), 0.5, training=self.training)


class Standardising(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x - x.mean(0) if len(x) > 1 else x)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Linear(3, 3), nn.Dropout(0.1)], r"model: dropout '1' \(p=0.1\) is in training mode.*model.eval\(\)"),
        ([nn.Linear(3, 3), nn.AlphaDropout(0.1)], "model: dropout '1'"),
        ([nn.Linear(3, 3), nn.BatchNorm1d(3)], "model: batch-norm '1' is in training mode, .*model.eval"),
        ([Recurrent()], r"model: '0.rnn' has dropout 0.5 in training mode; call model.eval\(\)"),
        ([FunctionalDropout()], r"loss: .*random.*model.eval\(\)"),
    ],
)
def test_a_model_that_is_random_in_training_mode_is_refused_there_and_taken_in_eval_mode(layers, message):
    model = nn.Sequential(*layers).to(DOUBLE)
    data = (softmax().x, softmax().y)
    with pytest.raises(InputError, match=message):
        uw.Objective(model.train(), CE, data)
    assert uw.Objective(model.eval(), CE, data).n == 24
    assert not model.training


def test_examples_that_depend_on_their_batch_are_refused():
    with pytest.raises(InputError, match=r"loss: .*depends on the other examples"):
        uw.Objective(Standardising().to(DOUBLE), CE, (softmax().x, softmax().y))


def test_training_mode_is_taken_where_it_changes_nothing():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0), nn.LayerNorm(3)).to(DOUBLE).train()
    objective = uw.Objective(model, CE, (softmax().x, softmax().y))
    objective.gradient()
    assert all(module.training for module in model.modules())


def influence(**options):
    return uw.Influence(softmax().objective(**options), uw.inverse.Dense())


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


def test_theta_away_from_an_optimum_is_said_with_its_figure():
    objective = mlp().objective().at(mlp().theta + 1)
    with pytest.warns(NotStationaryWarning, match=r"‖∇R‖ = \d\.\d+e[+-]\d+, \d.* × the sampling noise") as record:
        attribution = uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN())).attribute(mlp().queries)
    assert len(record) == 1
    figure = float(re.search(r"‖∇R‖ = (\S+),", str(record[0].message)).group(1))
    assert figure == pytest.approx(attribution.facts["gradient_norm"], rel=0.01)
    assert attribution.facts["gradient_over_noise"] > 1


def test_a_solver_that_stops_early_says_so_wherever_it_is_used():
    problem = softmax()
    stopped = uw.Influence(problem.objective(), uw.inverse.CG(max_iterations=2))
    one = (problem.query_x[:1], problem.query_y[:1])
    for call in (
        lambda: stopped.attribute(one),
        lambda: stopped.self_influence(train=[0]),
        lambda: stopped.self_influence(train=[0], leverage_corrected=True),
        lambda: stopped.parameters([0]),
        lambda: stopped.group([0], one),
        lambda: stopped.perturbation(0, one),
        lambda: stopped.relabel([0], [1], one),
    ):
        with pytest.warns(
            NotConvergedWarning, match=r"relative residual ≤ \d\.\de-?\+?\d+ in 2 iterations .*not reached"
        ):
            call()


@pytest.mark.parametrize("inverse", [uw.inverse.Dense(), uw.inverse.CG()], ids=["dense", "CG"])
def test_an_indefinite_hessian_is_refused_with_its_curvature_and_the_mend(inverse):
    problem = mlp()
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to(DOUBLE)
    objective = uw.Objective(model, CE, (problem.x, problem.y))
    matrix = uw.curvature.Hessian().of(objective).dense()
    smallest = float(torch.linalg.eigvalsh(matrix)[0])
    assert smallest < -1e-3
    vectors = torch.randn(3, objective.p, dtype=DOUBLE)
    with pytest.raises(NegativeCurvatureError, match=r"-\d.*(?s:.*)damping > \d") as error:
        inverse.fit(objective).solve(vectors)
    if isinstance(inverse, uw.inverse.Dense):
        assert f"{smallest:.3e}" in str(error.value)
    enough = type(inverse)(damping=-1.5 * smallest).fit(objective).solve(vectors).x
    shifted = matrix - 1.5 * smallest * torch.eye(objective.p, dtype=DOUBLE)
    close(enough, torch.linalg.solve(shifted, vectors.T).T, rtol=1e-6, atol=1e-7)


def test_a_diverging_series_is_refused():
    problem = softmax()
    with pytest.raises(DivergedError, match=r"LiSSA diverged .*larger scale"):
        uw.Influence(problem.objective(), uw.inverse.LiSSA(scale=0.01, depth=200)).attribute(problem.queries)


def test_unpenalised_softmax_has_no_inverse_and_is_said_or_refused():
    """Adding a constant to all logits changes nothing: H is singular."""
    unpenalised = softmax().objective(l2=0.0)
    with pytest.warns(UpweightWarning, match=r"singular to rounding along 4 of 12 directions .*l2 > 0"):
        _ = uw.Influence(unpenalised).solver
    with pytest.raises(NegativeCurvatureError, match=r"larger damping or l2 > 0, .*singular='pseudo'"):
        _ = uw.Influence(unpenalised, uw.inverse.Dense()).solver


def test_a_slow_path_is_said():
    class Branching(torch.nn.Module):
        """Its scale has no rule, and its branch on the data can't be vectorised."""

        def __init__(self):
            super().__init__()
            self.linear, self.slope = torch.nn.Linear(3, 3, dtype=torch.float64), torch.nn.PReLU(dtype=torch.float64)

        def forward(self, x):
            out = self.slope(self.linear(x))
            return out * (1.0 if out.sum().item() > -1e9 else 2.0)

    problem = softmax()
    with pytest.warns(SlowPathWarning) as said:
        objective = uw.Objective(Branching(), uw.losses.CrossEntropy(), (problem.x, problem.y), l2=0.1)
    texts = " ".join(str(warning.message) for warning in said)
    assert "slope.weight: no rule" in texts
    assert "one example at a time" in texts
    rows = []
    for i in range(problem.n):
        value = uw.losses.CrossEntropy()(objective.model, (problem.x[i : i + 1], problem.y[i : i + 1])).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(objective.model.parameters()))]))
    close(objective.engine.function.each(objective.params, (problem.x, problem.y)).materialize(), torch.stack(rows))
