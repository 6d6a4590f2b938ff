"""The CNN of Figure 2, right: its own gradients, its optimiser and its closed form, on random images."""

from pathlib import Path

import pytest
import torch
from experiments.koh_liang import cnn, cnn_gradient
from experiments.koh_liang import fig2_counterfactuals as others
from torch import Tensor

import upweight as uw
from problems import DOUBLE, close

N = 21  # no multiple of the images that go through the kernel at a time


def random_images(n: int = N) -> cnn.Split:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, 28, 28, generator=generator, dtype=DOUBLE), torch.arange(n) % 10


def several(k: int) -> Tensor:
    noise = torch.randn(k, 2616, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    return cnn.flat(cnn.network()) + 0.1 * noise


def test_the_network_has_the_papers_number_of_parameters() -> None:
    assert len(cnn.flat(cnn.network())) == 2616
    assert cnn.penalty(cnn.network()).count_nonzero() == 2616 - 5 * 8 - 10 - 10


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-6), (DOUBLE, 1e-13)])
def test_the_kernel_gives_the_gradients_of_automatic_differentiation(dtype: torch.dtype, accuracy: float) -> None:
    if cnn_gradient.library() is None:
        pytest.skip("no C++ compiler here: the experiment goes by torch")
    x, y = random_images()
    weights = torch.rand(3, N, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    found = cnn_gradient.losses_and_gradients(cnn.network(), several(3), x.to(dtype), y, weights)
    expected = cnn_gradient.by_torch(cnn.network(), several(3), x, y, weights)
    for part, truth in zip(found, expected, strict=True):
        assert (part - truth).norm() <= accuracy * truth.norm()


def test_steps_are_those_of_torchs_adam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnn, "BATCH", 40)
    data, model = random_images(cnn.BATCH), cnn.network().double()
    state, l2 = cnn.Adam.at(cnn.flat(model)[None]), cnn.penalty(model)
    groups = [
        {"params": [v for v in model.parameters() if v.dim() > 1], "weight_decay": cnn.L2},
        {"params": [v for v in model.parameters() if v.dim() == 1]},
    ]
    optimizer = torch.optim.Adam(groups, lr=1e-3)
    for _ in range(3):
        state = cnn.advance(model, state, data, l2, 1e-3)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()
    close(state.params[0], cnn.flat(model), rtol=1e-9, atol=1e-9)


def test_a_left_out_image_changes_nothing_of_its_model() -> None:
    (x, y), model = random_images(cnn.BATCH), cnn.network()
    blank = x.clone()
    blank[7] = 0
    l2, state = cnn.penalty(model), cnn.Adam.at(cnn.flat(model)[None]).repeated(2)
    removed = torch.tensor([7, -1])
    one = cnn.advance(model, state, (x, y), l2, 1e-3, removed)
    other = cnn.advance(model, state, (blank, y), l2, 1e-3, removed)
    close(one.params[0], other.params[0], rtol=1e-12)
    assert (one.params[1] - other.params[1]).abs().max() > 1e-6


def test_training_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    data = random_images(cnn.BATCH)
    whole = cnn.train(data, 4, tmp_path / "whole", every=1)
    (tmp_path / "cut").mkdir()
    for name in ("state.pt", "step-0000002.pt"):
        (tmp_path / "cut" / name).write_bytes((tmp_path / "whole" / "step-0000002.pt").read_bytes())
    assert torch.equal(cnn.train(data, 4, tmp_path / "cut", every=1).params, whole.params)


def test_products_by_differences_are_the_hessians() -> None:
    data = random_images()
    objective = uw.Objective(cnn.network().double(), uw.losses.CrossEntropy(), data, l2={"*.weight": cnn.L2})
    vectors = torch.randn(2, 2616, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    found = others.Differences(data).of(objective).apply(vectors)
    expected = uw.curvature.Hessian().of(objective).apply(vectors)
    assert (found - expected).norm() <= 1e-4 * expected.norm()


def test_the_objectives_own_kernel_gives_its_risk_and_gradient() -> None:
    arguments = (cnn.network().double(), uw.losses.CrossEntropy(), random_images())
    own, plain = (kind(*arguments, l2={"*.weight": cnn.L2}) for kind in (others.Objective, uw.Objective))
    for found, expected in zip(own.risks_and_gradients(several(2)), plain.risks_and_gradients(several(2)), strict=True):
        close(found, expected, rtol=1e-9, atol=1e-12)


def test_without_an_image_the_others_keep_their_weight() -> None:
    """∇ of the anchored objective is ∇R − ∇ℓ_j/n + δ(θ − θ_s), and its Hessian's products are H − H_j/n + δ."""
    data = random_images()
    start = others.Objective(cnn.network().double(), uw.losses.CrossEntropy(), data, l2={"*.weight": cnn.L2})
    theta, j, damping = several(1)[0], 3, 0.1
    anchored = start.anchored(damping, start.params, theta, j)
    here = start.at(theta)
    ((_, lost),) = list(here.example_gradients([j]))
    expected = here.gradient() - lost[0] / start.n + damping * (theta - start.params)
    close(anchored.risks_and_gradients(theta[None])[1][0], expected, rtol=1e-8, atol=1e-12)
    vectors = torch.randn(2, start.p, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    whole = uw.curvature.Hessian().of(here)
    product = whole.apply(vectors) - whole.share([j]).apply(vectors) + damping * vectors
    found = others.Differences(data, damping, anchored.weights).of(anchored).apply(vectors)
    assert (found - product).norm() <= 1e-4 * product.norm()


@pytest.mark.exhaustive  # a minute and a half, as the experiment itself has it
def test_models_without_an_image_reach_the_tolerance(tmp_path: Path) -> None:
    data = random_images()
    start = others.Objective(cnn.network().double(), uw.losses.CrossEntropy(), data, l2={"*.weight": cnn.L2})
    solver = uw.inverse.Dense(uw.curvature.Fisher(samples=None), damping=0.5).fit(start)
    walk = others.to_anchored_minimum(start, 0.5, solver, 1e-6)
    points = torch.tensor([1, 4])
    left = others.leave_out(start, 0.5, walk["params"], points, solver, 1e-6, tmp_path / "left")
    assert float(left["gradient_norms"].max()) <= 1e-6
    for params, point in zip(left["params"], points.tolist(), strict=True):
        slope = start.anchored(0.5, start.params, params, point).risks_and_gradients(params[None])[1]
        assert float(slope.norm()) <= 1e-6
        assert float((params - walk["params"]).norm()) > 1e-5


def test_the_closed_form_is_what_adam_does_to_a_quadratic() -> None:
    generator = torch.Generator().manual_seed(4)
    basis = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=DOUBLE))[0]
    curvature = basis @ torch.diag(torch.tensor([-0.05, 0.1, 1.0, 3.0, 9.0], dtype=DOUBLE)) @ basis.T
    query, gradients = torch.randn(2, 5, generator=generator, dtype=DOUBLE), torch.randn(3, 5, dtype=DOUBLE)
    square, rate, step = torch.rand(1, 5, generator=generator, dtype=DOUBLE) + 0.1, 1e-2, 10_000
    state = cnn.Adam(torch.zeros(1, 5, dtype=DOUBLE), torch.zeros(1, 5, dtype=DOUBLE), square, step)
    found = others.adam_response(curvature, query[0], gradients, state, rate, [1, 40])
    scale = 1 / ((square[0] / (1 - cnn.BETAS[1] ** step)).sqrt() + cnn.EPSILON)
    for number, steps in enumerate((1, 40)):
        moved = torch.zeros(3, 5, dtype=DOUBLE)
        for _ in range(steps):
            moved = moved - rate * scale * (moved @ curvature - gradients)
        close(found[number], moved @ query[0], rtol=1e-9)


def test_the_kernel_leaves_denormal_numbers_to_the_process_that_loads_it() -> None:
    cnn_gradient.library()
    assert torch.tensor(5e-324, dtype=torch.float64) * 1.0 > 0
