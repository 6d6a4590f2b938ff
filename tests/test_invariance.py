"""The same answer whatever the batching, the order, the chunks, the workers; the model as it was; no graph kept."""

import gc
import warnings
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import Dataset

import upweight as uw
from problems import DOUBLE, close, conv, convex, mlp
from upweight.baselines import similarity
from upweight.gradients import substituted

FEW = settings(
    max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
pytestmark = pytest.mark.usefixtures("unchecked")  # for speed
PROBLEMS = {"softmax": convex("softmax"), "mlp": mlp()}
INVERSES = {
    "dense": uw.inverse.Dense(uw.curvature.GGN(), damping=0.01),
    "CG": uw.inverse.CG(damping=0.01, tolerance=1e-12),
    "LSMR": uw.inverse.LSMR(damping=0.01, tolerance=1e-13),
    "LiSSA": uw.inverse.LiSSA(damping=0.5, batch_size=None, repeats=1, depth=60, scale=3.0),
}
CASES = st.sampled_from([("mlp", "dense"), *(("softmax", name) for name in INVERSES)])
BATCH_SIZES = st.sampled_from([1, 2, 5, 7, 8, 23, 24, 29, 30, 31])


def everything(objective, inverse, queries):
    """Each public quantity, as tensors."""
    influence = uw.Influence(objective, inverse)
    return {
        "removal": influence.attribute(queries).scores,
        "renormalised": influence.attribute(queries, renormalize=True).scores,
        "corrected": influence.attribute(queries, leverage_corrected=True).scores,
        "margin": influence.attribute(queries, measurement="margin").scores,
        "self": influence.self_influence().scores[None],
        "dot": similarity.gradient_dot(objective, queries).scores,
        "losses": objective.losses()[None],
        "dense": objective_curvature(objective),
        "noise": torch.tensor([[objective.stationarity().noise]]),
    }


def objective_curvature(objective):
    return uw.curvature.Hessian().of(objective).dense()


BASE = {}


def base(name, inverse):
    if (name, inverse) not in BASE:
        problem = PROBLEMS[name]
        BASE[name, inverse] = everything(problem.objective(), INVERSES[inverse], problem.queries)
    return BASE[name, inverse]


def same(actual, expected, columns=slice(None)):
    for key, value in expected.items():
        wanted = value if key in ("dense", "noise") else value[:, columns]
        close(actual[key], wanted, rtol=1e-7, atol=1e-9)


@FEW
@given(case=CASES, batch_size=BATCH_SIZES)
def test_no_result_depends_on_the_batch_size(case, batch_size):
    problem = PROBLEMS[case[0]]
    objective = problem.objective(batch_size=batch_size)
    same(everything(objective, INVERSES[case[1]], problem.queries), base(*case))


@FEW
@given(case=CASES, seed=st.integers(0, 2**31))
def test_no_result_depends_on_the_order_of_the_training_data(case, seed):
    problem = PROBLEMS[case[0]]
    order = torch.randperm(problem.n, generator=torch.Generator().manual_seed(seed))
    objective = problem.objective(data=(problem.x[order], problem.y[order]), batch_size=7)
    same(everything(objective, INVERSES[case[1]], problem.queries), base(*case), order)


@FEW
@given(case=CASES, cuts=st.sets(st.integers(1, 4)))
def test_no_query_depends_on_the_others(case, cuts):
    problem, edges = PROBLEMS[case[0]], [0, *sorted(cuts), 5]
    influence = uw.Influence(problem.objective(), INVERSES[case[1]])
    parts = [influence.attribute((problem.query_x[a:b], problem.query_y[a:b])).scores for a, b in pairwise(edges)]
    close(torch.cat(parts), base(*case)["removal"], rtol=1e-7, atol=1e-9)


@FEW
@given(case=CASES, chosen=st.lists(st.integers(0, 23), min_size=1, unique=True), size=BATCH_SIZES)
def test_a_subset_of_the_training_data_has_the_columns_of_the_whole(case, chosen, size):
    problem = PROBLEMS[case[0]]
    influence = uw.Influence(problem.objective(batch_size=size), INVERSES[case[1]])
    for options, key in (({}, "removal"), ({"leverage_corrected": True}, "corrected")):
        part = influence.attribute(problem.queries, train=chosen, **options)
        close(part.scores, base(*case)[key][:, chosen], rtol=1e-7, atol=1e-9)
        assert part.ids.tolist() == chosen
    close(influence.self_influence(train=chosen).scores, base(*case)["self"][0, chosen], rtol=1e-7, atol=1e-9)


class Examples(Dataset):
    def __init__(self, problem):
        self.x, self.y = problem.x, problem.y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


@pytest.mark.parametrize("workers", [0, 2])
def test_no_result_depends_on_the_number_of_workers(workers):
    problem = PROBLEMS["softmax"]
    objective = problem.objective(data=Examples(problem), num_workers=workers, batch_size=9)
    scores = uw.Influence(objective, INVERSES["dense"]).attribute(problem.queries).scores
    close(scores, base("softmax", "dense")["removal"])


def test_no_result_depends_on_the_number_of_threads():
    problem = PROBLEMS["mlp"]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        same(everything(problem.objective(), INVERSES["dense"], problem.queries), base("mlp", "dense"))
    finally:
        torch.set_num_threads(threads)


def test_asking_twice_gives_the_same_to_the_bit():
    problem = PROBLEMS["mlp"]
    influence = uw.Influence(problem.objective(), INVERSES["CG"])
    first, second = (influence.attribute(problem.queries).scores for _ in range(2))
    assert torch.equal(first, second)
    sampled = uw.Influence(problem.objective(), uw.inverse.LiSSA(damping=0.5, batch_size=4, repeats=2, depth=40))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.equal(*(sampled.attribute(problem.queries).scores for _ in range(2)))


def test_no_random_numbers_of_the_user_are_drawn():
    problem = PROBLEMS["mlp"]
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    everything(problem.objective(), INVERSES["CG"], problem.queries)
    uw.Influence(problem.objective(), uw.inverse.LiSSA(damping=0.5, repeats=2, depth=20)).attribute(problem.queries)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


OPERATIONS = {
    "objective": lambda i, q: i.objective.replace(validate=True),
    "gradient": lambda i, q: i.objective.gradient(),
    "losses": lambda i, q: i.objective.losses(q),
    "outputs": lambda i, q: i.objective.outputs(q),
    "example gradients": lambda i, q: list(i.objective.example_gradients()),
    "stationarity": lambda i, q: i.objective.stationarity(),
    "at": lambda i, q: i.objective.at(i.objective.params + 1).losses(),
    "precision": lambda i, q: i.objective.to(torch.float32).losses(),
    "Hessian": lambda i, q: uw.curvature.Hessian().of(i.objective).dense(),
    "GGN": lambda i, q: uw.curvature.GGN().of(i.objective).dense(),
    "attribute": lambda i, q: i.attribute(q),
    "margin": lambda i, q: i.attribute(q, measurement="margin"),
    "leverage": lambda i, q: i.attribute(q, leverage_corrected=True),
    "self-influence": lambda i, q: i.self_influence(),
    "parameters": lambda i, q: i.parameters([0, 1]),
    "group": lambda i, q: i.group([0, 1], q),
    "second order": lambda i, q: i.group([0, 1], q, order="second"),
    "Newton": lambda i, q: i.group([0, 1], q, order="newton", renormalize=True),
    "perturbation": lambda i, q: i.perturbation(0, q),
    "relabel": lambda i, q: i.relabel([0], [1], q),
    "cosine": lambda i, q: similarity.gradient_cosine(i.objective, q),
    "CG": lambda i, q: uw.inverse.CG(uw.curvature.GGN(), damping=1.0).fit(i.objective).solve(i.objective.params[None]),
    "LiSSA": lambda i, q: (
        uw.inverse.LiSSA(uw.curvature.GGN(), damping=1.0, repeats=1, depth=30)
        .fit(i.objective)
        .solve(i.objective.params[None])
    ),
}


class Interruptible(uw.losses.CrossEntropy):
    """Cross-entropy that can be told to fail in the middle of a call."""

    failing = False

    def of_outputs(self, outputs, batch):
        if self.failing:
            raise KeyboardInterrupt
        return super().of_outputs(outputs, batch)


def user_model():
    """Part frozen, part in training mode, with a gradient, a hook, and buffers."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 3)).to(DOUBLE)
    model.eval()
    model[3].train()
    model[0].bias.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    model[0].register_forward_hook(lambda module, args, output: None)
    model[1].running_mean.fill_(0.3)
    return model


def state(model):
    return {
        "values": {name: value.detach().clone() for name, value in model.state_dict().items()},
        "identities": [id(value) for value in (*model.parameters(), *model.buffers())],
        "graphs": [value.grad_fn for value in model.parameters()],
        "requires_grad": [value.requires_grad for value in model.parameters()],
        "grad": [None if value.grad is None else value.grad.clone() for value in model.parameters()],
        "training": [module.training for module in model.modules()],
        "hooks": [
            [len(getattr(module, name)) for name in vars(module) if name.endswith("hooks")]
            for module in model.modules()
        ],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "classes": [type(module) for module in model.modules()],
        "devices": [value.device for value in model.parameters()],
    }


def assert_as_it_was(before, after):
    for name, value in before.pop("values").items():
        assert torch.equal(after["values"][name], value), name
    for was, now in zip(before.pop("grad"), after["grad"], strict=True):
        assert (was is None) == (now is None)
        assert was is None or torch.equal(was, now)
    for name, value in before.items():
        assert after[name] == value, name


@pytest.mark.parametrize("interrupted", [False, True], ids=["done", "interrupted"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_model_comes_back_as_it_was(operation, interrupted):
    problem, model, loss = mlp(), user_model(), Interruptible()
    objective = uw.Objective(model, loss, (problem.x, problem.y), l2=0.1, batch_size=8)
    influence = uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN(), damping=0.1))
    before, grad_mode = state(model), torch.is_grad_enabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if interrupted:
            object.__setattr__(loss, "failing", True)
            if operation == "outputs":
                pytest.skip("asks for no loss")
            with pytest.raises(KeyboardInterrupt):
                OPERATIONS[operation](influence, problem.queries)
        else:
            OPERATIONS[operation](influence, problem.queries)
    assert_as_it_was(before, state(model))
    assert torch.is_grad_enabled() == grad_mode


def test_results_are_the_same_where_the_user_switched_gradients_off():
    problem = PROBLEMS["mlp"]
    with torch.no_grad():
        inside = everything(problem.objective(), INVERSES["dense"], problem.queries)
    same(inside, base("mlp", "dense"))


def test_nothing_is_written_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    problem = PROBLEMS["mlp"]
    everything(problem.objective(), INVERSES["CG"], problem.queries)
    assert not list(tmp_path.iterdir())


def graphs():
    """Live tensors that hold an autograd graph."""
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sum(isinstance(thing, torch.Tensor) and thing.grad_fn is not None for thing in gc.get_objects())


@pytest.mark.parametrize("problem", [convex("softmax"), mlp(), conv()], ids=["linear", "mlp", "conv"])
def test_no_result_holds_a_graph(problem):
    before = graphs()
    objective = problem.objective()
    influence = uw.Influence(objective, uw.inverse.Dense(uw.curvature.GGN(), damping=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [run(influence, problem.queries) for run in OPERATIONS.values()]
    assert graphs() == before
    assert len(results) == len(OPERATIONS)


@pytest.mark.parametrize(
    "operation", ["Hessian", "GGN", "attribute", "self-influence", "gradient", "example gradients"]
)
def test_only_one_batch_is_alive_at_a_time(operation, monkeypatch):
    """Activations of a batch are gone before those of the next are made, however many batches there are."""
    alive, most = weakref.WeakSet(), []
    real = substituted.functional_call

    def watched(*args, **options):
        out = real(*args, **options)
        if out.grad_fn is not None:
            alive.add(out)
        most.append(len(alive))
        return out

    problem = mlp()
    peaks = []
    for batch_size in (30, 10, 3):
        influence = uw.Influence(
            problem.objective(batch_size=batch_size), uw.inverse.Dense(uw.curvature.GGN(), damping=0.1)
        )
        _ = influence.solver, influence.stationarity
        monkeypatch.setattr(substituted, "functional_call", watched)
        OPERATIONS[operation](influence, problem.queries)
        monkeypatch.undo()
        peaks.append(max(most))
        most.clear()
        gc.collect()
        assert not len(alive)
    assert peaks[0] == peaks[1] == peaks[2]
