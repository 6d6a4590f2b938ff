"""Faults that were found in other libraries of influence functions, and that ours must be free of, solver by solver.

LSMR and LiSSA have their invariances in `tests/test_invariance.py`. Faults with a test elsewhere: conjugate gradients
that ignore their tolerance or give NaN (`test_conjugate_gradients_honour_their_tolerance`,
`test_what_did_not_converge_says_so_with_its_residual`,
`test_single_precision_reaches_what_it_promises_without_a_word`); a GGN divided by the number of parameters
(`test_the_trace_does_not_depend_on_the_number_of_batches`); a curvature of zero where predictions are uniform
(`test_uniform_predictions_keep_their_curvature`, `test_uniform_predictions_have_a_curvature`); one output that gives
zeros (`test_one_output_is_not_all_zero`); a Neumann series that is not divided by its scale, or whose damping is
multiplied by it (`test_lissa_is_the_neumann_series`, `test_the_damping_of_lissa_is_not_multiplied_by_its_scale`);
damping that is not absolute (`test_damping_is_what_is_added_to_the_curvature`); projected features summed in half
precision (`test_features_in_float32_are_summed_in_float64`); a resume that crashes within a batch
(`test_a_half_written_file_is_never_read`, `test_after_a_failure_only_what_is_missing_is_trained`); checkpoints that
must be paths (`test_state_dicts_modules_and_vectors_are_the_same_checkpoints`).
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import upweight as uw
from problems import DOUBLE, Problem, close, convex, mlp
from upweight.curvature import GGN, EmpiricalFisher
from upweight.errors import InputError
from upweight.evaluation import agreement
from upweight.inverse import CG, EKFAC, KFAC, Arnoldi, DataInf, Dense, Diagonal, Dual, Identity, Nystrom

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("ignore:.*not at an optimum")]
CE = uw.losses.CrossEntropy()
D = 0.1

BY_LAYER: dict[str, Any] = {
    "EKFAC": EKFAC(GGN(), damping=D),
    "KFAC": KFAC(GGN(), damping=D),
    "KFAC, δ on eigenvalues": KFAC(GGN(), damping=D, damping_rule="eigenvalue"),
    "Diagonal": Diagonal(GGN(), damping=D),
    "DataInf": DataInf(EmpiricalFisher(), damping=D),
}
INVERSES: dict[str, Any] = {
    **BY_LAYER,
    "Dense": Dense(GGN(), damping=D),
    "Dual": Dual(GGN(), damping=D),
    "Dual of sampled rows": Dual(uw.curvature.Fisher(2), damping=D),
    "CG": CG(GGN(), damping=D, tolerance=1e-13),
    "Nystrom": Nystrom(5, damping=D),
    "Arnoldi": Arnoldi(5, damping=D),
    "Identity": Identity(),
}
EXACT = ("Dense", "Dual", "CG")
every = pytest.mark.parametrize("name", INVERSES)
by_layer = pytest.mark.parametrize("name", BY_LAYER)


def influence(name: str, objective: uw.Objective | None = None, **options: Any) -> uw.Influence:
    return uw.Influence(objective or mlp().objective(**options), INVERSES[name])


def scores(name: str, objective: uw.Objective | None = None, queries: Any = None, **options: Any) -> Tensor:
    return influence(name, objective, **options).attribute(mlp().queries if queries is None else queries).scores


@every
def test_inverses_of_batches_are_not_summed(name: str) -> None:
    """dattri adds up the inverses of batches, so that its scores depend on the batch size."""
    whole = scores(name, batch_size=30)
    for size in (4, 29):
        close(scores(name, batch_size=size), whole, rtol=1e-7, atol=1e-10)


@every
def test_self_influence_needs_no_batch_of_everything(name: str) -> None:
    """dattri's self-influence crashes unless one batch holds all the data."""
    given = influence(name, batch_size=7)
    diagonal = given.attribute((mlp().x, mlp().y)).scores.diagonal()
    close(given.self_influence().scores, diagonal, rtol=1e-7, atol=1e-10)
    assert len(diagonal) == mlp().n


@every
def test_nothing_is_written_to_the_working_directory_by_any_solver(name: str, tmp_path: Any, monkeypatch: Any) -> None:
    """dattri writes its metadata there, and returns rows of earlier runs."""
    monkeypatch.chdir(tmp_path)
    found = scores(name)
    assert not list(tmp_path.iterdir())
    fewer = (mlp().query_x[:2], mlp().query_y[:2])
    close(scores(name, queries=fewer), found[:2], rtol=1e-7, atol=1e-10)


@every
def test_a_network_with_one_output_has_scores(name: str) -> None:
    """dattri returns zeros for models with one output."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double().eval()
    problem = convex("logistic", n=30)
    for loss in (uw.losses.BinaryLogistic(), uw.losses.SquaredError()):
        targets = [t.double() if isinstance(loss, uw.losses.SquaredError) else t for t in (problem.y, problem.query_y)]
        objective = uw.Objective(model, loss, (problem.x, targets[0]), l2=0.1)
        found = scores(name, objective, (problem.query_x, targets[1]))
        assert (found.abs() > 1e-12).all()
        if name in EXACT:
            close(found, scores("Dense", objective, (problem.query_x, targets[1])), rtol=1e-6, atol=1e-9)


class Twice(nn.Module):
    """A layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Attentive(nn.Module):
    """Self-attention over the three features as positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x[:, :, None])
        return self.head(self.attention(x, x, x)[0].mean(1))


def untrained(make: type[nn.Module]) -> Problem:
    torch.manual_seed(4)
    problem = mlp()
    return Problem(make().double().eval(), problem.compare, problem.x, problem.y, *problem.queries, problem.l2)


@pytest.mark.parametrize("make", [Twice, Attentive])
@every
def test_every_use_of_every_parameter_counts(name: str, make: type[nn.Module]) -> None:
    """kronfluence keeps a module's last use and fails on nn.MultiheadAttention; bergson crashes on reuse."""
    problem = untrained(make)
    objective = problem.objective()
    if name == "Identity":
        expected = problem.query_gradients() @ problem.gradients().T / problem.n
        close(scores(name, objective), expected, rtol=1e-8, atol=1e-10)
        return
    large = 1e7  # of its curvature nothing is left, so all the gradients must be there
    solver = influence(name, objective).solver.with_damping(large)
    found = uw.Influence(objective, solver).attribute(problem.queries).scores
    expected = problem.query_gradients() @ problem.gradients().T / problem.n / large
    close(
        found,
        expected,
        rtol=1e-2 if name == "KFAC" else 1e-4,
        atol=1e-2 * float(expected.abs().max()) if name == "KFAC" else 1e-12,
    )


@pytest.mark.parametrize("make", [Twice, Attentive])
def test_the_curvature_of_a_layer_used_twice_is_whole(make: type[nn.Module]) -> None:
    """kronfluence's factors come from the last use alone."""
    problem = untrained(make)
    trace = float(torch.trace(problem.ggn()))
    for inverse in (EKFAC(GGN(), damping=D), Diagonal(GGN(), damping=D)):
        assert inverse.fit(problem.objective()).operator.trace() == pytest.approx(trace, rel=1e-8)
    close(scores("Dual", problem.objective()), scores("Dense", problem.objective()), rtol=1e-7, atol=1e-10)


@by_layer
def test_the_bias_stays_in_its_place(name: str) -> None:
    """dattri's EK-FAC scrambles it: a bias is the weight of an input that is always 1."""
    problem = convex("softmax", n=30)
    with_bias = problem.objective()
    model = nn.Linear(4, 3, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.cat([problem.model.weight, problem.model.bias[:, None]], 1))
    x, query_x = (torch.cat([each, torch.ones(len(each), 1, dtype=DOUBLE)], 1) for each in (problem.x, problem.query_x))
    without = uw.Objective(model, CE, (x, problem.y), l2=problem.l2)
    found, expected = scores(name, with_bias), scores(name, without, (query_x, problem.query_y))
    close(found, expected, rtol=1e-8, atol=1e-10)


@by_layer
def test_layers_without_bias_are_those_whose_bias_is_held(name: str) -> None:
    """pyDVL's EK-FAC is wrong for layers without bias."""
    model = copy.deepcopy(mlp().model)
    for layer in (model[0], model[2]):
        nn.init.zeros_(layer.bias)
    bare = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 3, bias=False)).double()
    bare.load_state_dict({key: value for key, value in model.state_dict().items() if "bias" not in key})
    data = (mlp().x, mlp().y)
    held = uw.Objective(model, CE, data, l2=0.1, parameters=["*weight"])
    close(scores(name, uw.Objective(bare, CE, data, l2=0.1)), scores(name, held), rtol=1e-9, atol=1e-12)


@every
def test_nothing_accumulates_between_calls(name: str) -> None:
    """kronfluence's scores by module add up over batches; LogIX adds its damping in place at every call."""
    given = influence(name)
    first = given.attribute(mlp().queries).scores
    operator, damping = given.solver.operator, given.solver.damping
    given.self_influence(train=[0, 1])
    given.solver.with_damping(3.0).solve(mlp().query_gradients())
    for _ in range(2):
        assert torch.equal(given.attribute(mlp().queries).scores, first)
    assert given.solver.operator is operator
    assert given.solver.damping == damping
    again = given.solver.with_damping(3.0).with_damping(damping)
    close(uw.Influence(given.objective, again).attribute(mlp().queries).scores, first, rtol=1e-7, atol=1e-10)


class Counted(Dataset):
    """Counts how often an example is read."""

    def __init__(self, x: Tensor, y: Tensor):
        self.x, self.y, self.reads = x, y, 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self.reads += 1
        return self.x[i], self.y[i]


@pytest.mark.parametrize("size", [4, 30])
@pytest.mark.parametrize("name", [name for name in INVERSES if name != "CG"])  # whose passes are products with H
def test_training_data_are_read_once_for_any_number_of_queries(name: str, size: int) -> None:
    """kronfluence differentiates all training data again for every batch of queries."""
    data = Counted(mlp().x, mlp().y)
    given = influence(name, data=data, batch_size=size)
    _ = given.solver, given.stationarity
    reads = []
    for count in (1, 3, 5):
        before = data.reads
        given.attribute((mlp().query_x[:count], mlp().query_y[:count]))
        reads.append(data.reads - before)
    assert reads[0] == reads[1] == reads[2]
    passes = {"DataInf": 2, "Nystrom": 2, "Arnoldi": 2, "Dual": 1, "Dual of sampled rows": 1}.get(name, 1)
    assert reads[0] <= passes * mlp().n + 9  # a few examples show the form of the factors


@pytest.mark.parametrize("size", [1, 4, 30])
@pytest.mark.parametrize("name", ["Dense", "CG", "Nystrom", "DataInf"])
def test_queries_are_solved_for_once_whatever_the_chunks_of_training_data(
    name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyDVL solves again for every chunk of training examples."""
    given = influence(name, batch_size=size)
    kind, solved = type(given.solver), []
    plain = kind.solve

    def counting(self: Any, vectors: Tensor) -> Any:
        solved.append(len(vectors))
        return plain(self, vectors)

    monkeypatch.setattr(kind, "solve", counting)
    given.attribute(mlp().queries)
    assert solved == [5]


@pytest.mark.parametrize("name", ["EKFAC", "Dual"])
def test_two_workers_drop_no_row(name: str) -> None:
    """LogIX writes no rows with several workers, and says nothing."""
    plain = scores(name, data=Counted(mlp().x, mlp().y), batch_size=8)
    spread = scores(name, data=Counted(mlp().x, mlp().y), batch_size=8, num_workers=2)
    assert torch.equal(spread, plain)
    assert (spread != 0).all()


def test_duplicate_ids_are_refused() -> None:
    """LogIX keeps one of the rows that share an id."""
    ids = [f"example {i % 29}" for i in range(30)]
    with pytest.raises(InputError, match=r"ids: .*example 0"):
        mlp().objective(ids=ids)


@every
def test_fitting_leaves_no_gradient_behind(name: str) -> None:
    """pyDVL's fit leaves .grad populated."""
    problem = mlp()
    model = copy.deepcopy(problem.model)
    given = influence(name, uw.Objective(model, CE, (problem.x, problem.y), l2=0.1))
    given.attribute(problem.queries)
    given.self_influence(train=[0])
    assert all(value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "inverse", [Dual(GGN(), damping=0.0), Dense(GGN(), damping=0.0), CG(GGN(), damping=0.0), Nystrom(12)], ids=repr
)
def test_units_are_those_of_the_loss(inverse: Any) -> None:
    """trak rescales its scores, so that their unit is lost; ours are nats of the query, to a few per cent."""
    problem = convex("softmax", n=60, d=3)
    found = uw.Influence(problem.objective(), inverse).attribute(problem.queries).scores
    before = problem.query_losses(problem.theta)
    left_out = [problem.optimum(problem.counts_without(i)) for i in range(20)]
    actual = torch.stack([problem.query_losses(theta) - before for theta in left_out], 1)
    both = agreement(found[:, :20], actual)
    assert both.slope == pytest.approx(1, abs=0.12)
    assert both.pearson > 0.99


def test_gram_matrices_in_single_precision_are_near_those_in_double() -> None:
    """trak sums its kernel in half precision."""
    torch.manual_seed(2)
    x = 50 + 20 * torch.randn(600, 6, dtype=DOUBLE)
    y = torch.randint(0, 3, (600,))
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        model[0].weight.mul_(0.02)
    objective = uw.Objective(model, CE, (x, y), l2=1e-3)
    queries = (x[:10] + 1, y[:10])
    for curvature in (GGN(), EmpiricalFisher()):
        double = uw.Influence(objective, Dual(curvature, damping=1.0)).attribute(queries).scores
        single = uw.Influence(objective.to(torch.float32), Dual(curvature, damping=1.0)).attribute(queries).scores
        assert float((single - double).norm() / double.norm()) < 1e-3
