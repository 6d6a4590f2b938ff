"""Bad input of gradients by factors, curvature by rows and every inverse: refused by name, with the mend.

Beside these: `tests/inverse/test_kronecker_refusals.py` (fits that meet a NaN gradient),
`tests/gradients/test_factored.py` (slow and left-out parameters), `tests/curvature/test_rows.py` (what can't be
sampled).
"""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import upweight as uw
from problems import DOUBLE, convex, mlp
from upweight.curvature import GGN, EmpiricalFisher, Fisher, Hessian
from upweight.errors import InputError, NegativeCurvatureError, SlowPathWarning
from upweight.inverse import CG, EKFAC, KFAC, LSMR, Arnoldi, DataInf, Dense, Diagonal, Dual, LiSSA, Nystrom

pytestmark = [pytest.mark.usefixtures("unchecked"), pytest.mark.filterwarnings("ignore:.*not at an optimum")]
CE = uw.losses.CrossEntropy()

BY_ROWS = {"Dual": Dual, "EKFAC": EKFAC, "KFAC": KFAC, "Diagonal": Diagonal, "DataInf": DataInf}
INVERSES = {
    **BY_ROWS,
    "Nystrom": lambda **options: Nystrom(3, **options),
    "Arnoldi": lambda **options: Arnoldi(3, **options),
    "CG": lambda **options: CG(GGN(), **options),
    "Dense": lambda **options: Dense(GGN(), **options),
    "LSMR": lambda **options: LSMR(GGN(), **options),
    "LiSSA": lambda **options: LiSSA(GGN(), **options),
}
named = pytest.mark.parametrize("name", INVERSES)


class Root(nn.Module):
    """Its loss is finite everywhere, its slope infinite where the first layer gives 0."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)

    def forward(self, x):
        return self.head(self.layer(x).abs().sqrt())


def rooted(position):
    x = torch.rand(9, 2, dtype=DOUBLE) + 1
    if position is not None:
        x[position] = 0
    return x, torch.arange(9) % 2


@named
def test_a_training_example_with_a_nan_gradient_is_named(name):
    influence = uw.Influence(uw.Objective(Root().double(), CE, rooted(5), batch_size=4), INVERSES[name](damping=0.1))
    message = "gradients: NaN or infinite for training example 5,.* leave the example out"
    for ask in (lambda: influence.attribute(rooted(None)), influence.self_influence, lambda: influence.parameters([5])):
        with pytest.raises(InputError, match=message):
            ask()


@pytest.mark.parametrize("name", BY_ROWS)
def test_so_it_is_by_a_fit_alone_whatever_the_rows(name):
    for damping in (0.1,) if name == "DataInf" else (0.1, "auto"):  # its "auto" goes by products, before any row
        inverse, objective = (
            BY_ROWS[name](EmpiricalFisher(), damping=damping),
            uw.Objective(Root().double(), CE, rooted(5)),
        )
        with pytest.raises(InputError, match=r"gradients: NaN or infinite for training example 5, at layer\.weight"):
            inverse.fit(objective).solve(torch.ones(1, objective.p, dtype=DOUBLE))


@named
@pytest.mark.parametrize("measurement", ["loss", "margin"])
def test_a_query_with_a_nan_gradient_is_named(name, measurement):
    objective = uw.Objective(Root().double(), CE, rooted(None), l2=0.1, batch_size=2)
    with pytest.raises(InputError, match="queries: the gradient of query 5 is NaN or infinite"):
        uw.Influence(objective, INVERSES[name](damping=0.1)).attribute(rooted(5), measurement=measurement)


@named
@pytest.mark.parametrize("damping", ["best", -0.1, float("nan"), float("inf"), True, None])
def test_a_damping_that_is_none_is_refused(name, damping):
    with pytest.raises(InputError, match=rf"damping: give a finite number ≥ 0, 'auto'.*got {re.escape(repr(damping))}"):
        _ = uw.Influence(mlp().objective(), INVERSES[name](damping=damping)).solver


@pytest.mark.parametrize("name", [*BY_ROWS, "Nystrom", "Arnoldi"])
def test_no_damping_of_a_singular_curvature_is_refused(name):
    x = mlp().x.clone()
    x[:, 1] = 0
    objective = mlp().objective(l2=0.0, data=(x, mlp().y))
    with pytest.raises(InputError, match=r"damping: .*singular .*give damping > 0"):
        uw.Influence(objective, INVERSES[name](damping=0.0)).attribute(mlp().queries)
    penalised = objective.replace(l2={"*": 0.1})
    assert torch.isfinite(uw.Influence(penalised, INVERSES[name](damping=0.0)).attribute(mlp().queries).scores).all()


@pytest.mark.parametrize("name", ["CG", "Dense"])
def test_iterations_and_factors_of_a_singular_curvature_say_the_damping(name):
    x = mlp().x.clone()
    x[:, 1] = 0
    objective = mlp().objective(l2=0.0, data=(x, mlp().y))
    with pytest.raises(NegativeCurvatureError, match=r"is not positive definite.*damping"):
        uw.Influence(objective, INVERSES[name](damping=0.0)).attribute(mlp().queries)


def own_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


@pytest.mark.parametrize("name", BY_ROWS)
def test_what_cannot_be_sampled_says_which_curvature_can(name):
    make, hinge = BY_ROWS[name], convex("logistic").objective(loss=uw.losses.SmoothHinge())
    with pytest.raises(InputError, match=r"curvature: SmoothHinge is no .*use curvature\.GGN\(\) or .*EmpiricalFisher"):
        make(Fisher(), damping=0.1).fit(hinge)
    mine = mlp().objective(loss=uw.losses.Function(own_loss))
    with pytest.raises(InputError, match=r"curvature: Function is no .*use EmpiricalFisher\(\)"):
        make(Fisher(), damping=0.1).fit(mine)
    assert torch.isfinite(
        uw.Influence(mine, make(EmpiricalFisher(), damping=0.1)).attribute(mlp().queries).scores
    ).all()
    with pytest.raises(InputError, match=r"curvature: give curvature.GGN\(\), Fisher\(\) or .* got Hessian"):
        make(Hessian(), damping=0.1).fit(mine)


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_refused(samples):
    with pytest.raises(InputError, match=f"samples: give a whole number of at least 1; got {samples}"):
        EKFAC(Fisher(samples), damping=0.1).fit(mlp().objective())


@pytest.mark.parametrize("memory", [10_000, 40_000])
def test_a_memory_too_small_for_the_dual_says_what_would_fit_and_that_fits(memory):
    objective = mlp().objective()
    with pytest.raises(InputError, match=r"memory: 60 rows need 0\.0001\d GiB .*or use inverse\.EKFAC\(\)") as error:
        Dual(damping=0.1, memory=memory).fit(objective)
    rows = int(re.search(r"up to (\d+) rows fit", str(error.value)).group(1))
    assert 0 < rows < 60
    assert Dual(damping=0.1, rows=rows, memory=memory).fit(objective).rank == rows
    with pytest.raises(InputError, match=f"memory: {rows + 1} rows need"):
        Dual(damping=0.1, rows=rows + 1, memory=memory).fit(objective)


def test_an_influence_with_little_memory_falls_back_to_layers_and_says_why():
    influence = uw.Influence(mlp().objective(), memory=10_000)
    assert isinstance(influence.inverse, EKFAC)
    assert "EK-FAC" in influence.choice
    assert "rows" in influence.choice
    assert torch.isfinite(influence.attribute(mlp().queries).scores).all()


@pytest.mark.parametrize("memory", [0, -1, True, "2GB", 1e9])
def test_a_memory_that_is_no_number_of_bytes_is_refused(memory):
    message = rf"memory, in bytes: .*; got {re.escape(repr(memory))}"
    with pytest.raises(InputError, match=message):
        uw.Influence(mlp().objective(), memory=memory)
    with pytest.raises(InputError, match=message):
        Dual(damping=0.1, memory=memory).fit(mlp().objective())


@pytest.mark.parametrize("rows", [0, -1, True, 2.5])
def test_rows_that_are_no_number_are_refused(rows):
    with pytest.raises(InputError, match=f"rows: give a whole number of at least 1; got {rows!r}"):
        Dual(damping=0.1, rows=rows).fit(mlp().objective())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_of_16_bits_are_those_of_32_with_the_same_numbers(dtype):
    model, data = copy.deepcopy(mlp().model).to(dtype), (mlp().x, mlp().y)
    objective, wide = uw.Objective(model, CE, data), uw.Objective(copy.deepcopy(model).float(), CE, data)
    assert objective.dtype == torch.float32
    assert {value.dtype for value in model.parameters()} == {dtype}
    assert torch.equal(objective.params, wide.params)
    assert torch.equal(objective.losses(), wide.losses())
    queries = (mlp().x[:3], mlp().y[:3])
    found, expected = (uw.Influence(each, EKFAC(damping=0.1)).attribute(queries).scores for each in (objective, wide))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_beside_64_are_refused(dtype):
    model, data = copy.deepcopy(mlp().model), (mlp().x, mlp().y)
    model[0].to(dtype)
    with pytest.raises(InputError, match=rf"model: parameters are of {dtype} and torch\.float64; .*\.float\(\)"):
        uw.Objective(model, CE, data)
    assert uw.Objective(model.float(), CE, data).dtype == torch.float32


def test_half_precision_data_are_read_in_the_precision_of_the_model():
    model = copy.deepcopy(mlp().model).float()
    given = uw.Objective(model, CE, (mlp().x.bfloat16(), mlp().y))
    expected = uw.Objective(model, CE, (mlp().x.bfloat16().float(), mlp().y))
    assert torch.equal(given.losses(), expected.losses())


def test_layers_without_a_rule_are_said_with_their_share():
    model = nn.Sequential(nn.Linear(3, 4), nn.PReLU(4), nn.Linear(4, 3)).double()
    with pytest.warns(SlowPathWarning, match=r"1 parameters, 11\.4% of θ, .*1\.weight: no rule for"):
        objective = uw.Objective(model, CE, (mlp().x, mlp().y), l2=0.1)
    assert objective.coverage().parameters("slow") == pytest.approx(4 / 35)


def test_of_many_layers_without_a_rule_four_are_named_and_the_others_counted():
    layers = [layer for _ in range(5) for layer in (nn.Linear(3, 3), nn.PReLU())]
    with pytest.warns(SlowPathWarning) as said:
        uw.Objective(nn.Sequential(*layers).double(), CE, (mlp().x, mlp().y), l2=0.1)
    (text,) = [str(warning.message) for warning in said]
    assert text.count("no rule for") == 4
    assert "; and 1 more)" in text


def test_frozen_parameters_are_counted_by_the_coverage():
    model = copy.deepcopy(mlp().model)
    model[0].requires_grad_(False)
    report = uw.Objective(model, CE, (mlp().x, mlp().y)).coverage()
    assert report.parameters("left out") == pytest.approx(16 / 31)
    assert 0 < report.attributed < 1
    assert "left out: 0.weight (12; frozen)" in str(report)
