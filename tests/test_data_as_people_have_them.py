"""Data, ids, parameters and models as people have them: the same scores as from plain differentiation."""

from collections import OrderedDict, UserDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

import upweight as uw
from problems import DOUBLE, Problem, close, convex, mlp
from upweight import losses
from upweight.data import as_data
from upweight.errors import InputError
from upweight.parameters import select

Named = namedtuple("Named", ["input", "label"])


class Pairs(Dataset):
    """What torchvision's datasets give: an image and a class number of Python."""

    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        return self.x[i], int(self.y[i])


class Encodings(UserDict):
    """As a tokenizer's: its values under attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self.data[name]


class Dicts(Pairs):
    def __getitem__(self, i: int) -> Any:
        return Encodings(input=self.x[i], label=int(self.y[i]))


class NamedTuples(Pairs):
    def __getitem__(self, i: int) -> Any:
        return Named(self.x[i], int(self.y[i]))


def shuffled(x: Tensor, y: Tensor) -> Any:
    """The two parts of a random split, put together in the order of the data."""
    parts = random_split(Pairs(x, y), [10, len(x) - 10], torch.Generator().manual_seed(0))
    order = torch.tensor([*parts[0].indices, *parts[1].indices]).argsort()
    return Subset(ConcatDataset(parts), order.tolist())


FORMS = {
    "subset": lambda x, y: Subset(TensorDataset(x, y), range(len(x))),
    "subset of subset": lambda x, y: Subset(Subset(Pairs(x, y), range(len(x))), list(range(len(x)))),
    "concatenated": lambda x, y: ConcatDataset([Pairs(x[:1], y[:1]), TensorDataset(x[1:], y[1:])]),
    "random split": shuffled,
    "pairs": Pairs,
    "list of pairs": lambda x, y: [(row, int(label)) for row, label in zip(x, y, strict=True)],
    "list of lists": lambda x, y: [[row, label] for row, label in zip(x, y, strict=True)],
    "batch as a list": lambda x, y: [x, y],
    "list of arrays": lambda x, y: [x.numpy(), y.numpy()],
    "list of frames": lambda x, y: [pd.DataFrame(x.numpy()), pd.Series(y.numpy())],
    "lists of numbers": lambda x, y: (x.tolist(), y.tolist()),
    "UserDict": lambda x, y: UserDict(input=x, label=y),
    "encodings of lists": lambda x, y: Encodings(input=x.tolist(), label=y.tolist()),
    "encodings of examples": Dicts,
    "OrderedDict": lambda x, y: OrderedDict(input=x, label=y),
    "named tuple": Named,
    "named tuples": NamedTuples,
    "the other byte order": lambda x, y: (x.numpy().astype(">f8"), y.numpy().astype(">i8")),
    "an array with a mask that hides nothing": lambda x, y: (np.ma.masked_array(x.numpy()), y),
    "examples in a graph": lambda x, y: Pairs(x.clone().requires_grad_() * 1, y),
    "int8": lambda x, y: (x, y.to(torch.int8)),
    "int16": lambda x, y: (x, y.numpy().astype(np.int16)),
    "int32": lambda x, y: (x, y.int().numpy()),
    "uint8": lambda x, y: TensorDataset(x, y.to(torch.uint8)),
}


@pytest.mark.parametrize("make", [mlp, lambda: convex("softmax")], ids=["network", "linear"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_scores_of_plain_differentiation(make, form):
    problem: Problem = make()
    given = FORMS[form]
    objective = problem.objective(data=given(problem.x, problem.y), batch_size=4)
    close(torch.cat([g for _, g in objective.example_gradients()]), problem.gradients())
    influence = uw.Influence(objective, uw.inverse.Dense())
    expected = problem.query_gradients() @ torch.linalg.solve(problem.hessian(), problem.gradients().T) / problem.n
    # Queries in the same form, and as a tuple or dict of tensors.
    same = given(*problem.queries) if form != "random split" else Pairs(*problem.queries)
    for queries in (same, FORMS["UserDict"](*problem.queries), problem.queries, list(problem.queries)):
        close(influence.attribute(queries).scores, expected, rtol=1e-7)
    assert uw.Influence(objective).attribute(same).scores.shape == expected.shape  # the automatic choice reads it too
    # Batches taken out of it are data again: other labels, replaced examples.
    labels = (problem.y[:2] + 1) % 3
    relabelled = influence.relabel([0, 1], labels, problem.queries).scores
    substituted = influence.replacement([0, 1], [problem.x[:2], labels], problem.queries).scores
    close(relabelled, substituted)


def test_small_kinds_of_labels_are_ignored_as_any():
    """−100 is no uint8, and 156, which it would become, is a class."""
    outputs, labels = torch.randn(3, 200, dtype=DOUBLE), torch.tensor([156, 3, 0])
    loss = losses.CrossEntropy()
    close(loss(nn.Identity(), (outputs, labels.to(torch.uint8))), loss(nn.Identity(), (outputs, labels)))
    ignored = torch.tensor([-100, 3, 0])
    close(loss(nn.Identity(), (outputs, ignored.to(torch.int8))), loss(nn.Identity(), (outputs, ignored)))


@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int16, torch.bool])
@pytest.mark.parametrize("loss", [losses.BinaryLogistic(), losses.SquaredError(), losses.Hinge()])
def test_small_kinds_of_binary_labels_are_those_of_int64(kind, loss):
    outputs, labels = torch.randn(4, 1, dtype=DOUBLE), torch.tensor([0, 1, 1, 0])
    loss.check(outputs, (None, labels.to(kind)))
    close(loss(nn.Identity(), (outputs, labels.to(kind))), loss(nn.Identity(), (outputs, labels)))


class WithoutLength(Dataset):
    def __getitem__(self, i: int) -> Any:
        return torch.ones(3), 0


class RaisingLength(WithoutLength):
    def __len__(self) -> int:
        raise NotImplementedError("unknown")


@pytest.mark.parametrize("source", [WithoutLength(), RaisingLength()])
def test_positions_without_a_length_are_refused(source):
    kind = type(source).__name__
    with pytest.raises(InputError, match=rf"data: {kind} has positions but no length.*Subset\(dataset, range\(n\)\)"):
        as_data(source)
    assert len(as_data(Subset(source, range(4)))) == 4


def test_a_list_that_may_be_two_examples_or_a_batch_is_refused():
    x = torch.randn(5, 3)
    with pytest.raises(InputError, match=r"may be two examples or inputs and targets; give a tuple \(x, y\)"):
        as_data([x, x])
    assert len(as_data([x, x, x])) == 3  # as before: examples
    assert len(as_data([torch.ones(2, 3), torch.ones(4, 3)], collate=nn.utils.rnn.pad_sequence)) == 2
    objective = uw.Objective(nn.Linear(3, 3), losses.SquaredError(), (x, x))
    assert len(objective.queries([x, x])) == 5  # a training example is no bare array


def test_lists_of_unequal_length_are_refused_with_the_mend():
    with pytest.raises(InputError, match="lists of unequal length is no array; pad them"):
        as_data(UserDict(input_ids=[[1, 2], [1]], label=[0, 1]))


NAMES = np.array([f"doc-{i:04d}" for i in range(24)])


def named(**options: Any) -> uw.Objective:
    return convex("softmax").objective(ids=NAMES, **options)


def test_ids_are_accepted_wherever_positions_are():
    problem, ours = convex("softmax"), uw.Influence(named(), uw.inverse.Dense())
    queries, some, at = problem.queries, ["doc-0003", "doc-0001"], [3, 1]
    found = ours.attribute(queries, train=some)
    assert found.ids.tolist() == some
    close(found.scores, ours.attribute(queries, train=at).scores)
    close(ours.self_influence(train=pd.Index(some)).scores, ours.self_influence(train=at).scores)
    close(ours.parameters(np.array(some)), ours.parameters(at))
    close(ours.group(some, queries).scores, ours.group(at, queries).scores)
    groups = ([some, ["doc-0000"]], [at, [0]])
    close(*(ours.group(each, queries).scores for each in groups))
    close(*(uw.retraining.leave_out(named(), each).params for each in groups))
    close(*(uw.retraining.leave_out(named(), each).params for each in (some, at)))
    close(*(ours.relabel(each, [0, 1], queries).scores for each in (some, at)))
    close(*(ours.perturbation(each, queries).gradient for each in ("doc-0003", 3)))
    close(*(ours.generalized(uw.Removal(each)).step for each in (some, at)))
    assert named().positions(["doc-0003", "doc-0001"]).tolist() == at


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (["doc-003"], "no training example has the id 'doc-003'; there is .*'doc-0003'"),
        (["Doc-0003 "], "there is 'doc-0003'"),
        (["picture"], "no training example has the id 'picture'; the first are 'doc-0000', 'doc-0001', 'doc-0002'"),
        (["doc-0001", "doc-0001"], "'doc-0001' is named 2 times"),
        (["doc-0001", 3], "3 stands among ids such as 'doc-0001'; give positions or ids, not both"),
        ("doc-0001", "give at least one|give a list of positions"),
        ([None], "no training example has the id None"),
        ([24], "positions must be in 0 … 23"),
    ],
)
def test_ids_that_are_none_are_refused_by_name(indices, message):
    with pytest.raises(InputError, match=f"indices: .*({message})"):
        named().positions(indices)


def test_whole_numbers_are_positions_also_where_ids_are_whole_numbers():
    objective = convex("softmax").objective(ids=np.arange(24) + 10)
    assert objective.positions([12]).tolist() == [12]
    with pytest.raises(InputError, match="Whole numbers are positions; the id 30 is at position 20"):
        objective.positions([30])
    with pytest.raises(InputError, match=r"'30' is no whole-number position.*have no ids but whole numbers"):
        objective.positions(["30"])
    texts = convex("softmax").objective(ids=[str(i) for i in reversed(range(24))])
    assert texts.positions(["0"]).tolist() == [23]
    assert texts.positions([0]).tolist() == [0]


def test_parameters_may_be_given_themselves_or_by_their_module():
    model = mlp().model
    first, last = model[0], model[2]
    wanted = ("2.weight", "2.bias")
    for given in (last, last.parameters(), list(last.parameters()), [last], [last.weight, "2.bias"], (last.bias, last)):
        assert select(model, given).names == wanted
    assert select(model, first.weight).names == ("0.weight",)
    assert select(model, model).names == select(model, None).names
    assert select(model, [last.bias, first.weight]).names == ("0.weight", "2.bias")
    optimiser = torch.optim.SGD(last.parameters(), 0.1)
    assert select(model, optimiser.param_groups[0]["params"]).names == wanted
    objective = mlp().objective(parameters=last)
    close(
        torch.cat([g for _, g in objective.example_gradients()]),
        torch.cat([g for _, g in mlp().objective(parameters=list(wanted)).example_gradients()]),
    )


def test_tied_parameters_are_one():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert select(model, model[2]).names == ("0.weight", "2.bias")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (nn.Linear(3, 4), "the Linear given is none of the model's modules"),
        ([nn.Linear(3, 4).weight], r"a tensor \[4, 3\] is none of the model's parameters"),
        (nn.Tanh, "none of the model's|is selected"),
        (3, r"give names or patterns, .*got 3"),
        ([3], "3 is no name, parameter or module"),
        ([], r"is selected \(p = 0\)"),
    ],
)
def test_parameters_that_are_not_the_models_are_refused(given, message):
    if given is nn.Tanh:
        given = mlp().model[1]
    with pytest.raises(InputError, match=f"parameters: .*({message})"):
        select(mlp().model, given)


@dataclass
class Output:
    loss: Any
    hidden: Tensor
    logits: Tensor | None = None


@dataclass
class OnlyStates:
    states: Any
    extra: Tensor


class Returning(nn.Module):
    """A network that returns its outputs in another form."""

    def __init__(self, inner: nn.Module, form: str):
        super().__init__()
        self.inner, self.form = inner, form

    def forward(self, input: Tensor) -> Any:
        out = self.inner(input)
        other, reduced = out.detach() * 2, out.sum()
        return {
            "dict": {"scores": out, "other": other},
            "logits in a dict": {"loss": reduced, "other": other, "logits": out},
            "UserDict": UserDict(other=other, logits=out),
            "tuple": (out, other),
            "a loss first": (reduced, out),
            "list": [None, [reduced, out]],
            "nested": (None, "words", {"a": (out, other)}),
            "dataclass": Output(reduced, other, out),
            "dataclass of the first": OnlyStates(None, out),
            "dataclass without logits": Output(reduced, out),
            "named tuple": Named(out, other),
            "namespace": SimpleNamespace(logits=out),
        }[self.form]


RETURNED = (
    *("dict", "logits in a dict", "UserDict", "tuple", "a loss first", "list", "nested", "dataclass"),
    *("dataclass of the first", "dataclass without logits", "named tuple", "namespace"),
)


@pytest.mark.parametrize("form", RETURNED)
def test_outputs_are_the_logits_or_the_first_tensor_of_what_is_returned(form):
    problem = mlp()
    model = Returning(problem.model, form).eval()
    objective = uw.Objective(model, losses.CrossEntropy(), (problem.x, problem.y), l2=problem.l2)
    close(torch.cat([g for _, g in objective.example_gradients()]), problem.gradients())
    close(uw.curvature.GGN().of(objective).dense(), problem.ggn())
    close(uw.curvature.Hessian().of(objective).dense(), problem.hessian())


@pytest.mark.parametrize("returned", [None, {}, (None, "a"), {"loss": torch.tensor(1.0)}])
def test_a_model_without_an_output_tensor_is_refused(returned):
    class Nothing(nn.Linear):
        def forward(self, input: Tensor) -> Any:
            return returned

    with pytest.raises(InputError, match=r"model: it returned .* in which there is no tensor of outputs"):
        uw.Objective(Nothing(3, 3), losses.CrossEntropy(), (torch.randn(4, 3), torch.arange(4) % 3))
