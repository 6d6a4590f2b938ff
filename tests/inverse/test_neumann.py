"""The Neumann series on the normal equations, beside the exact answer."""

import pytest
import torch

from upweight.errors import DivergedError
from upweight.inverse import Neumann

generator = torch.Generator().manual_seed(0)
A = torch.randn(9, 4, generator=generator, dtype=torch.float64)
V = torch.randn(1, 9, generator=generator, dtype=torch.float64)
NORM = float(torch.linalg.matrix_norm(A, 2))


def through(x: torch.Tensor) -> torch.Tensor:
    return x @ A.T


def back(u: torch.Tensor) -> torch.Tensor:
    return u @ A


@pytest.mark.parametrize("nu", [None, 0.01, 1.0, 2 * NORM])
def test_it_comes_to_least_squares_and_says_how(nu):
    x, history = Neumann(nu).solve(through, back, V, 1e-10, 10_000)
    expected = torch.linalg.lstsq(A, V.T).solution.T
    torch.testing.assert_close(x, expected, rtol=1e-8, atol=1e-9)
    assert history[0] == 1
    assert history[-1] == pytest.approx(float(back(V - through(x)).norm() / back(V).norm()), rel=1e-6)
    assert history[-1] <= 1e-10 < history[-2]


def test_a_near_best_scale_is_found_by_the_power_method():
    steps = [len(Neumann(nu).solve(through, back, V, 1e-8, 10_000)[1]) for nu in (0.708 * NORM, None, NORM, 2 * NORM)]
    assert steps[1] == min(steps) < steps[3] / 4


def test_it_diverges_at_a_smaller_scale_and_says_so():
    with pytest.raises(DivergedError, match=r"diverges at every ν from 0\.5 to 0\.5"):
        Neumann(0.5, max_doublings=1).solve(through, back, V, 1e-8, 1000)


def test_nothing_is_solved_by_nothing():
    x, history = Neumann(None).solve(through, back, torch.zeros_like(V), 1e-8, 1000)
    assert not x.any()
    assert history == (0.0,)


def test_rounding_is_no_divergence():
    """In single precision the residual comes to rest above the tolerance, and ν stays what it was."""
    single = A.float()
    _, history = Neumann(None).solve(lambda x: x @ single.T, lambda u: u @ single, V.float(), 1e-12, 800)
    _, exact = Neumann(None).solve(through, back, V, 1e-12, 800)
    assert len(history) == 801
    assert history[40] == pytest.approx(exact[40], rel=0.05)
    assert 1e-12 < history[-1] < 1e-5


@pytest.mark.parametrize("eps", [torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps])
def test_a_residual_that_wobbles_at_its_floor_doubles_nothing(eps):
    """Whatever a processor's rounding is: here it is many times larger in one step than in the next."""
    dtype = torch.float32 if eps > 1e-10 else torch.float64
    matrix, asked = A.to(dtype), V.to(dtype)
    steps = iter(range(10_000))

    def wobbling(u: torch.Tensor) -> torch.Tensor:
        return u @ matrix + (next(steps) % 7) * 3 * eps * NORM * asked.norm() * torch.ones(4, dtype=dtype)

    _, history = Neumann(0.75 * NORM).solve(lambda x: x @ matrix.T, wobbling, asked, 1e-17, 500)
    _, exact = Neumann(0.75 * NORM).solve(through, back, V, 1e-17, 500)
    assert len(history) == 501
    assert max(history[1:]) < 2
    assert history[20] == pytest.approx(exact[20], rel=0.05)  # at the ν given
    assert max(b / a for a, b in zip(history[-100:], history[-99:], strict=False)) > 3  # it does wobble
