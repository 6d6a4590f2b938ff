"""TRAK against its formula with whole gradients, written out."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev

import upweight as uw
from problems import DOUBLE, close, convex, mlp, unflatten
from sketches import matrix_of
from upweight.baselines import projection
from upweight.baselines.projection import Projection
from upweight.baselines.trak import mean_square, soft_threshold
from upweight.errors import InputError, NegativeCurvatureError
from upweight.inverse import MeanEigenvalue

K = 6


def thetas(count=3):
    theta = mlp().theta
    return theta + 0.3 * torch.randn(count, len(theta), dtype=DOUBLE, generator=torch.Generator().manual_seed(4))


def log_probabilities(theta, x, y):
    z = functional_call(mlp().model, unflatten(mlp().model, theta), (x,))
    return z.log_softmax(-1).gather(1, y[:, None])[:, 0]


def margins(theta, x, y):
    log_p = log_probabilities(theta, x, y)
    return log_p - torch.log1p(-log_p.exp())


def losses(theta, x, y):
    return -log_probabilities(theta, x, y)


def columns(p, seed, member, kind="sparse"):
    """P from its definition, if it isn't the identity."""
    own = Projection(p, K, (seed, member), kind)
    if kind == "sparse":
        layout = mlp().objective().layout
        return matrix_of(own.sketch(layout, torch.device("cpu")), layout)
    return torch.stack([torch.from_numpy(own.column(j)).to(DOUBLE) for j in range(K)], dim=1) / K**0.5


def slow(points, damping, *, project=True, train=margins, query=None, weights=None, kind="sparse"):
    """mean_m[Q]·mean_m[φ_qᵀ((1/n)Φᵀ W Φ + δI)⁻¹φ_z]/n, and Q w."""
    problem, kernels, pulls = mlp(), [], []
    w = torch.ones(problem.n, dtype=DOUBLE) if weights is None else weights
    for member, theta in enumerate(points):
        p = columns(len(theta), 0, member, kind) if project else torch.eye(len(theta), dtype=DOUBLE)
        features = jacrev(train)(theta, problem.x, problem.y) @ p
        wanted = jacrev(query or train)(theta, *problem.queries) @ p
        kernel = features.T @ torch.diag(w) @ features / problem.n
        inverse = torch.linalg.inv(kernel + damping * torch.eye(len(kernel), dtype=DOUBLE))
        kernels.append(wanted @ inverse @ features.T / problem.n)
        pulls.append(1 - log_probabilities(theta, problem.x, problem.y).exp())
    pull = torch.stack(pulls).mean(0) if train is margins else -torch.ones(problem.n, dtype=DOUBLE)
    return w * pull * torch.stack(kernels).mean(0)


@pytest.mark.parametrize("kind", ["sparse", "gaussian", "rademacher"])
def test_scores_are_the_product_of_two_means_over_models(kind):
    trak = uw.TRAK(mlp().objective(), thetas(), dimension=K, damping=0.02, projection=kind)
    found = trak.attribute(mlp().queries)
    close(found.scores, slow(thetas(), 0.02, kind=kind), rtol=1e-7)
    assert found.damping == 0.02
    assert found.quantity.helpful_sign == 1
    assert found.facts["models"] == 3


def test_the_objectives_own_model_is_the_default():
    close(
        uw.TRAK(mlp().objective(), dimension=K, damping=0.02).attribute(mlp().queries).scores,
        slow(mlp().theta[None], 0.02),
        rtol=1e-7,
    )


def test_without_projection_it_is_the_kernel_of_whole_gradients():
    trak = uw.TRAK(mlp().objective(), dimension=10_000, damping=0.03)
    close(trak.attribute(mlp().queries).scores, slow(mlp().theta[None], 0.03, project=False), rtol=1e-7)


def test_without_damping_it_is_the_papers_formula_to_rounding():
    trak = uw.TRAK(mlp().objective(), thetas(), dimension=K, damping=0.0)
    close(trak.attribute(mlp().queries).scores, slow(thetas(), 0.0), rtol=1e-6)


def test_a_larger_dimension_comes_nearer_to_the_kernel():
    torch.manual_seed(0)
    model = nn.Linear(100, 3).to(DOUBLE)
    data = (torch.randn(40, 100, dtype=DOUBLE), torch.arange(40) % 3)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), data)
    exact = uw.TRAK(objective, dimension=303, damping=1.0).attribute(data).scores

    def error(k):
        return float((uw.TRAK(objective, dimension=k, damping=1.0).attribute(data).scores - exact).norm())

    assert error(250) < 0.6 * error(25)


def test_the_loss_can_be_the_output_function():
    trak = uw.TRAK(mlp().objective(), thetas(), dimension=K, damping=0.02, measurement="loss")
    found = trak.attribute(mlp().queries)
    close(found.scores, slow(thetas(), 0.02, train=losses), rtol=1e-7)
    assert found.quantity.helpful_sign == -1, "training on a helpful example lowers the loss"


def test_another_measurement_of_the_query_can_be_explained():
    trak = uw.TRAK(mlp().objective(), thetas(), dimension=K, damping=0.02)
    found = trak.attribute(mlp().queries, "loss")
    close(found.scores, slow(thetas(), 0.02, query=losses), rtol=1e-7)
    assert found.quantity.helpful_sign == -1


def test_weights_multiply_the_pull_and_the_kernel():
    weights = torch.rand(mlp().n, dtype=DOUBLE) + 0.1
    trak = uw.TRAK(mlp().objective(weights=weights), dimension=K, damping=0.02)
    close(trak.attribute(mlp().queries).scores, slow(mlp().theta[None], 0.02, weights=weights), rtol=1e-7)


def test_the_margin_of_a_logistic_regression_is_signed():
    problem = convex("logistic")
    signs = 2 * problem.y - 1
    features = signs[:, None] * problem.x
    wanted = (2 * problem.query_y - 1)[:, None] * problem.query_x
    wrong = 1 - torch.sigmoid(features @ problem.theta)
    expected = wanted @ torch.linalg.inv(features.T @ features) @ features.T * wrong
    close(uw.TRAK(problem.objective(), damping=0.0).attribute(problem.queries).scores, expected)


def logistic_optima(x, signs, counts):
    """Newton on Σ c_i log(1 + exp(−s_i θᵀx_i)) for every row of counts."""
    theta = torch.zeros(len(counts), x.shape[1], dtype=DOUBLE)
    for _ in range(12):
        p = torch.sigmoid(signs * (theta @ x.T))
        gradient = (counts * (p - 1) * signs) @ x
        hessian = torch.einsum("kn,ni,nj->kij", counts * p * (1 - p), x, x)
        theta = theta - torch.linalg.solve(hessian, gradient)
    return theta


def test_four_times_the_score_is_the_change_by_retraining_where_nothing_can_be_learned():
    """TRAK leaves p(1 − p) out of the Hessian; at θ ≈ 0 that is ¼ for every example."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 3, dtype=DOUBLE, generator=generator)
    signs = 2.0 * torch.randint(2, (300,), generator=generator).to(DOUBLE) - 1
    counts = torch.cat([torch.ones(1, 300), 1 - torch.eye(300)]).to(DOUBLE)
    theta = logistic_optima(x, signs, counts)
    model = nn.Linear(3, 1, bias=False).to(DOUBLE)
    with torch.no_grad():
        model.weight.copy_(theta[:1])
    objective = uw.Objective(model, uw.losses.BinaryLogistic(), (x, (signs > 0).long()))
    scores = uw.TRAK(objective, damping=0.0).attribute((x[:9], (signs[:9] > 0).long())).scores
    changes = (signs[:9] * ((theta[:1] - theta[1:]) @ x[:9].T)).T
    assert torch.corrcoef(torch.stack([scores.flatten(), changes.flatten()]))[0, 1] > 0.995
    slope = float((scores * changes).sum() / (scores * scores).sum())
    assert slope == pytest.approx(4, rel=0.05)


@pytest.mark.usefixtures("unchecked")  # for speed
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch_size=st.integers(1, 31), columns=st.integers(1, 6), rows=st.integers(1, 31))
def test_scores_do_not_depend_on_batches_or_blocks(batch_size, columns, rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "PROJECTION_ELEMENTS", columns * mlp().objective().p)
        patch.setattr("upweight.baselines.trak.ROWS", rows)
        patch.setattr("upweight.baselines.trak.COLUMNS", columns)
        trak = uw.TRAK(mlp().objective(batch_size=batch_size), dimension=K, damping=0.02, projection="gaussian")
        found, own = trak.attribute(mlp().queries).scores, trak.self_influence().scores
    plain = uw.TRAK(mlp().objective(), dimension=K, damping=0.02, projection="gaussian")
    close(found, plain.attribute(mlp().queries).scores, rtol=1e-8)
    close(own, plain.self_influence().scores, rtol=1e-8)


def test_self_influence_is_the_diagonal():
    problem = mlp()
    trak = uw.TRAK(problem.objective(), thetas(), dimension=K, damping=0.02)
    diagonal = trak.attribute((problem.x, problem.y)).scores.diagonal()
    close(trak.self_influence().scores, diagonal)
    close(trak.self_influence(train=[3, 1]).scores, diagonal[[3, 1]])


def test_positions_and_names_are_kept():
    objective = mlp().objective(ids=[f"e{i}" for i in range(mlp().n)])
    trak = uw.TRAK(objective, dimension=K, damping=0.02)
    some = trak.attribute(mlp().queries, train=[7, 3], query_ids=list("abcde"))
    close(some.scores, trak.attribute(mlp().queries).scores[:, [7, 3]])
    assert some.ids.tolist() == ["e7", "e3"]
    assert some.query_ids.tolist() == list("abcde")


def test_the_default_damping_is_free_of_the_losses_scale():
    problem = mlp()

    def scores(factor):
        def scaled(model, batch):
            return factor * problem.compare(model(batch[0]), batch[1])

        trak = uw.TRAK(problem.objective(loss=scaled), dimension=K, measurement="loss")
        return trak.attribute(problem.queries).scores

    close(scores(1000.0), scores(1.0), rtol=1e-7)


def test_damping_of_multiples_is_shown_as_an_absolute_number():
    found = uw.TRAK(mlp().objective(), dimension=K, damping=MeanEigenvalue(0.5)).attribute(mlp().queries)
    features = jacrev(margins)(mlp().theta, mlp().x, mlp().y) @ columns(len(mlp().theta), 0, 0)
    assert found.damping == pytest.approx(0.5 * float((features**2).sum()) / mlp().n / K)


def test_features_in_float32_are_summed_in_float64():
    """Features of very different sizes: in half or single precision the kernel's small directions are lost."""
    torch.manual_seed(0)
    x = torch.randn(60, 4) * torch.tensor([1.0, 1e-1, 1e-2, 1e-3])
    y = torch.arange(60) % 2
    model = nn.Linear(4, 1, bias=False)
    single = uw.TRAK(uw.Objective(model, uw.losses.BinaryLogistic(), (x, y)), damping=0.0)
    double = uw.TRAK(
        uw.Objective(copy.deepcopy(model).double(), uw.losses.BinaryLogistic(), (x.double(), y)), damping=0.0
    )
    close(single.attribute((x, y)).scores, double.attribute((x.double(), y)).scores, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (50, 50), (7, 5)])
def test_the_kernel_is_the_weighted_mean_of_squares_and_symmetric_to_the_last_digit(monkeypatch, rows, columns):
    monkeypatch.setattr("upweight.baselines.trak.ROWS", rows)
    monkeypatch.setattr("upweight.baselines.trak.COLUMNS", columns)
    features, weights = torch.randn(20, 9), torch.rand(20)
    found = mean_square(features, weights)
    close(found, torch.einsum("n,nk,nl->kl", weights.double(), features.double(), features.double()) / 20)
    assert torch.equal(found, found.T)


def test_soft_threshold_keeps_the_largest():
    scores = torch.tensor([[3.0, -5.0, 1.0, 0.0], [0.5, 0.5, 0.5, 2.0]])
    close(soft_threshold(scores, 2), torch.tensor([[2.0, -4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.5]]))
    close(soft_threshold(scores, 9), scores)
    trak = uw.TRAK(mlp().objective(), dimension=K, damping=0.02)
    close(trak.attribute(mlp().queries, keep=3).scores, soft_threshold(trak.attribute(mlp().queries).scores, 3))
    with pytest.raises(InputError, match="keep: give a whole number"):
        trak.attribute(mlp().queries, keep=0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimension": 0}, "dimension"),
        ({"seed": -1}, "seed"),
        ({"projection": "srht"}, "projection"),
        ({"damping": -1.0}, "damping"),
        ({"damping": "auto"}, "damping"),
        ({"damping": 0.0}, "n=30 examples is singular in 31 dimensions"),
        ({"measurement": "log-probability"}, "'margin' or 'loss'"),
        ({"measurement": lambda model, batch: model(batch[0]).sum(1)}, "'margin' or 'loss'"),
        ({"models": []}, "models: the list is empty"),
        ({"models": [nn.Linear(2, 2)]}, r"models\[0\]: it belongs to another model"),
        ({"models": mlp().model}, "models: give a list"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        uw.TRAK(mlp().objective(), **settings)


def test_a_loss_without_margin_is_refused():
    with pytest.raises(InputError, match=r"not for SquaredError. Give measurement='loss'"):
        uw.TRAK(convex("ridge").objective())
    with pytest.raises(InputError, match="not for Function"):
        uw.TRAK(mlp().objective(loss=lambda model, batch: model(batch[0]).sum(1)))
    tokens = torch.randint(5, (6, 3))
    sequences = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5))
    with pytest.raises(InputError, match="this has 3 per example"):
        uw.TRAK(uw.Objective(sequences, uw.losses.CrossEntropy(), (tokens, (tokens + 1) % 4)))
    several = nn.Linear(3, 3).to(DOUBLE)
    with pytest.raises(InputError, match="this has 3 per example"):
        uw.TRAK(uw.Objective(several, uw.losses.BinaryLogistic(), (mlp().x, mlp().y)))


def test_a_kernel_that_turns_out_singular_is_refused():
    x = torch.ones(9, 3, dtype=DOUBLE)
    objective = uw.Objective(nn.Linear(3, 3).to(DOUBLE), uw.losses.CrossEntropy(), (x, torch.arange(9) % 3))
    with pytest.raises(NegativeCurvatureError):
        uw.TRAK(objective, dimension=8, damping=0.0).attribute((x, torch.arange(9) % 3))


def test_queries_that_are_none_are_refused():
    trak = uw.TRAK(mlp().objective(), dimension=K)
    with pytest.raises(InputError, match="targets range"):
        trak.attribute((mlp().query_x, mlp().query_y + 9))
    with pytest.raises(InputError, match="query_ids: need 5"):
        trak.attribute(mlp().queries, query_ids=[1])
