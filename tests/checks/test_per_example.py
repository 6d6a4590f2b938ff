"""Losses and measurements that depend on their batch, or are cut off from θ, are refused; rounding never is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

import upweight as uw
from problems import DOUBLE, close, convex, mlp
from upweight.errors import InputError

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("ignore:.*not at an optimum")]
CE = uw.losses.CrossEntropy()


def examples(n=80, dtype=DOUBLE):
    torch.manual_seed(3)
    x = torch.randn(n, 3, dtype=dtype)
    return x, (x[:, 0] > 0.4).long() + (x[:, 1] > 1).long()


def network(dtype=DOUBLE, *layers):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), *layers, nn.Tanh(), nn.Linear(4, 3)).to(dtype).eval()


def apart(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def by_class_counts(model, batch):
    counts = torch.bincount(batch[1], minlength=3).to(batch[0])
    return apart(model, batch) * len(batch[1]) / (3 * counts[batch[1]])


def hardest(model, batch):
    values = apart(model, batch)
    return torch.where(values >= values.detach().quantile(0.7), values, 0 * values)


def hardest_few(model, batch):
    values = apart(model, batch)
    chosen = torch.zeros_like(values).index_fill(0, values.topk(min(8, len(values))).indices, 1.0)
    return values * chosen


def in_batch_negatives(model, batch):
    rows = F.normalize(model(batch[0]), dim=1)
    return -(rows @ F.normalize(model(batch[0] + 0.1), dim=1).T).log_softmax(1).diagonal()


def share_of_the_mean(model, batch):
    return apart(model, batch) / len(batch[1])


def neighbours(model, batch):
    values = apart(model, batch)
    return values + 0.1 * values.roll(1)


def standardised(model, batch):
    values = apart(model, batch)
    return values / values.std()


def only_in_large_batches(model, batch):
    values = apart(model, batch)
    return values - values.mean() if len(values) > 20 else values


DEPENDENT = {
    f.__name__: f
    for f in (
        by_class_counts,
        hardest,
        hardest_few,
        in_batch_negatives,
        share_of_the_mean,
        neighbours,
        standardised,
        only_in_large_batches,
    )
}


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("loss", DEPENDENT)
def test_losses_that_depend_on_the_batch_are_refused_with_the_example_and_both_values(loss, dtype):
    x, y = examples(dtype=dtype)
    ids = [f"row-{i}" for i in range(len(x))]
    message = r"loss: an example's value depends on the other .* example row-\d+ has \S+, and \S+ (in another|alone)"
    with pytest.raises(InputError, match=message) as error:
        uw.Objective(network(dtype), DEPENDENT[loss], (x, y), ids=ids)
    position = int(str(error.value).split("row-")[1].split()[0])
    said = float(str(error.value).split("has ")[1].split(",")[0])
    with torch.no_grad():
        expected = DEPENDENT[loss](network(dtype), (x, y))[position]
    assert said == pytest.approx(float(expected), rel=2e-3)


@pytest.mark.parametrize("batch_size", [None, 2, 5, 16])
@pytest.mark.parametrize("n", [2, 3, 4, 8, 80])
def test_batch_norm_without_running_statistics_is_refused_and_named(n, batch_size):
    model = network(DOUBLE, nn.BatchNorm1d(4, track_running_stats=False))
    x, y = examples(n)
    with pytest.raises(
        InputError, match=r"(depends on|a batch of 1, it raised) .*batch-norm '1' has no running statistics"
    ):
        uw.Objective(model, CE, (x, y), batch_size=batch_size)


X, Y = examples()


class Sorted(Dataset):
    """All that depends on the batch is among the last examples."""

    def __len__(self):
        return 80

    def __getitem__(self, i):
        return X[i], Y[i]


def late(model, batch):
    values = apart(model, batch)
    rare = batch[1] == 2
    return torch.where(rare, values / rare.sum().clamp_min(1), values)


def test_so_it_is_wherever_in_the_data_and_in_a_data_set():
    with pytest.raises(InputError, match="depends on the other examples"):
        uw.Objective(network(), late, Sorted(), batch_size=10)


class Drawn(Sorted):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x + torch.randn(3, dtype=DOUBLE), y


def test_examples_that_are_drawn_anew_each_time_are_refused():
    with pytest.raises(InputError, match=r"data: example \d+ isn't the same each time it is read.*random"):
        uw.Objective(network(), CE, Drawn())


def test_without_validation_nothing_is_compared():
    assert uw.Objective(network(), hardest, examples(), validate=False).n == 80


def block(channels):
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2, 1)
    )


def large_network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), *(block(32) for _ in range(10)), nn.Flatten(), nn.LazyLinear(10)]
    model = nn.Sequential(*layers).eval()
    model(torch.zeros(1, 3, 16, 16))
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.fill_(0.05)
    return model


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_rounding_of_a_deep_network_is_no_dependence(dtype, scale):
    model = large_network().to(dtype)
    with torch.no_grad():
        model[-1].weight.mul_(scale)  # losses from log 10 to far beyond, and to 0
        x = torch.randn(70, 3, 16, 16, dtype=dtype)
        y = model(x).argmax(1)
    y[::7] = 0
    for batch_size in (None, 3):
        assert uw.Objective(model, CE, (x, y), batch_size=batch_size, parameters=["12.*"]).n == 70


@pytest.mark.parametrize("make", ["transformer", "lstm", "float32 inside", "fitted"])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_nor_is_that_of_other_networks(make, dtype):
    torch.manual_seed(0)
    x, y = torch.randn(66, 5, 8, dtype=dtype), torch.arange(66) % 4

    class Ends(nn.Module):
        def __init__(self, body, inside=None):
            super().__init__()
            self.body, self.head, self.inside = body, nn.Linear(8, 4), inside

        def forward(self, x):
            out = self.body(x)
            out = (out[0] if isinstance(out, tuple) else out).mean(1)
            return 20 * self.head(out.to(self.inside or out.dtype).softmax(-1).to(out.dtype) * 8)

    layer = nn.TransformerEncoderLayer(8, 2, 32, batch_first=True, dropout=0.0)
    bodies = {"lstm": nn.LSTM(8, 8, batch_first=True)}
    body = bodies.get(make, nn.TransformerEncoder(layer, 4, enable_nested_tensor=False))
    model = Ends(body, torch.float32 if make == "float32 inside" else None).to(dtype).eval()
    if make == "fitted":
        with torch.no_grad():
            model.head.weight.mul_(50)
            y = model(x).argmax(1)
    assert uw.Objective(model, CE, (x, y), parameters=["head.*"]).n == 66
    assert uw.Objective(model, apart, (x, y), parameters=["head.*"]).n == 66


def detached(model, batch):
    return F.cross_entropy(model(batch[0]).detach(), batch[1], reduction="none")


def without_gradients(model, batch):
    with torch.no_grad():
        return apart(model, batch)


def through_numpy(model, batch):
    logits = torch.from_numpy(model(batch[0]).detach().numpy().copy())
    return F.cross_entropy(logits, batch[1], reduction="none")


def inferred(model, batch):
    with torch.inference_mode():
        return apart(model, batch)


def is_right(model, batch):
    return (model(batch[0]).argmax(1) == batch[1]).to(batch[0])


def of_the_inputs(model, batch):
    return batch[0].sum(1)


CUT_OFF = {f.__name__: f for f in (detached, without_gradients, through_numpy, inferred, is_right, of_the_inputs)}


@pytest.mark.parametrize("cut", CUT_OFF)
def test_what_is_cut_off_from_the_parameters_is_refused(cut):
    data = examples(20)
    with pytest.raises(InputError, match=r"loss: its values are cut off from .*would be 0; .*detach, no_grad.*NumPy"):
        uw.Objective(network(), CUT_OFF[cut], data)
    objective = uw.Objective(network(), CE, data, l2=0.1)
    influences = [
        uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN(), damping=0.1)),
        uw.Influence(objective, uw.inverse.Dual(damping=0.1)),
        uw.TracIn(objective, [objective.params], 1.0),
    ]
    named = uw.measurements.Function(CUT_OFF[cut], name=cut)
    for influence in influences:
        for kind, word in ((CUT_OFF[cut], "measurement"), (named, f"measurement '{cut}'")):
            with pytest.raises(InputError, match=rf"{word}: its values are cut off from the model's parameters"):
                influence.attribute(data, measurement=kind)
    queries = (data[0][:1], data[1][:1])
    for ask in (
        lambda: influences[0].group([0], queries, measurement=CUT_OFF[cut]),
        lambda: influences[0].replacement([0], queries, queries, measurement=CUT_OFF[cut]),
    ):
        with pytest.raises(InputError, match="measurement: its values are cut off"):
            ask()


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        with torch.no_grad():
            return self.inner(x)


class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.unused = network(), nn.Linear(2, 2)

    def forward(self, x):
        return self.inner(x)


def test_a_model_that_is_cut_off_is_said_to_be_the_model():
    with pytest.raises(InputError, match="model: its outputs are cut off from the model's parameters"):
        uw.Objective(Frozen(), CE, examples(20))
    with pytest.raises(InputError, match=r"model: its outputs depend on none of the 2 parameters in θ \(unused"):
        uw.Objective(Other().double(), CE, examples(20), parameters=["unused.*"])


class Detaching(uw.losses.CrossEntropy):
    def compare(self, outputs, targets):
        return super().compare(outputs.detach(), targets)


def test_so_it_is_with_a_linear_model_and_a_loss_of_ours_made_other():
    problem = convex("softmax")
    with pytest.raises(InputError, match="loss: its values are cut off"):
        problem.objective(loss=Detaching())


MEASURED = {
    "several values": (lambda m, b: m(b[0]), r"measurement: returned shape \(5, 3\) for 5 queries, expected \(5,\)"),
    "one of all": (lambda m, b: m(b[0]).sum(), r"measurement: returned shape \(\) for 5 queries.*already reduced"),
    "no tensor": (lambda m, b: 1.0, "measurement: must return a tensor of one value per example; got float"),
    "NaN": (
        lambda m, b: torch.where(b[0][:, 0] == convex("softmax").query_x[3, 0], torch.nan, m(b[0])[:, 0]),
        "measurement: the value of query 3 is NaN or infinite",
    ),
    "centred": (
        lambda m, b: m(b[0])[:, 0] - m(b[0])[:, 0].mean(),
        r"measurement: an example's value depends on the other .* query \d has",
    ),
    "ranked": (
        lambda m, b: m(b[0])[:, 0] * (m(b[0])[:, 0] >= m(b[0])[:, 0].median()),
        r"measurement: an example's value depends on the other .* query \d has",
    ),
}


@pytest.mark.parametrize("inverse", [uw.inverse.Dense(), uw.inverse.Dual(damping=0.1), uw.inverse.CG()])
@pytest.mark.parametrize("mistake", MEASURED)
def test_measurements_are_checked_as_losses_are(mistake, inverse):
    measurement, message = MEASURED[mistake]
    problem = convex("softmax")
    influence = uw.Influence(problem.objective(), inverse)
    with pytest.raises(InputError, match=message):
        influence.attribute(problem.queries, measurement=measurement)
    assert "solver" not in influence.__dict__  # before any work


def test_a_measurement_that_is_right_has_the_gradient_of_plain_differentiation():
    problem = mlp()
    influence = uw.Influence(problem.objective(), uw.inverse.Dense(uw.curvature.GGN(), damping=0.1))

    def probability(model, batch):
        return model(batch[0]).softmax(1)[:, 1]

    rows = []
    for i in range(len(problem.query_x)):
        value = probability(problem.model, (problem.query_x[i : i + 1], None)).sum()
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(problem.model.parameters()))]))
    matrix = problem.ggn() + 0.1 * torch.eye(len(problem.theta), dtype=DOUBLE)
    expected = torch.stack(rows) @ torch.linalg.solve(matrix, problem.gradients().T) / problem.n
    found = influence.attribute(problem.queries, measurement=probability).scores
    close(found, expected)
