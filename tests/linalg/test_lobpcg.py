"""The smallest eigenvalue by LOBPCG against dense ones."""

from __future__ import annotations

import pytest
import torch

from problems import DOUBLE, close
from symmetric import times, with_spectrum
from upweight.linalg.lobpcg import smallest_eigenvalue

VALUES = torch.cat([torch.tensor([-0.7, -0.2]), torch.linspace(0.1, 5, 48)]).to(DOUBLE)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_it_is_found(preconditioned: bool) -> None:
    matrix = with_spectrum(VALUES)
    near = torch.linalg.inv(matrix + 2 * torch.eye(50, dtype=DOUBLE))
    found = smallest_eigenvalue(times(matrix), 50, 60, precondition=times(near) if preconditioned else None)
    close(found, -0.7, rtol=1e-4)


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_it_is_a_bound_before_it_is_found_and_the_seed_decides(limit: int) -> None:
    matrix = with_spectrum(VALUES)
    found = [smallest_eigenvalue(times(matrix), 50, limit, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert min(found) >= -0.7 - 1e-9


def test_products_may_be_in_single_precision() -> None:
    single = with_spectrum(VALUES).float()
    close(smallest_eigenvalue(lambda x: x.float() @ single, 50, 60), -0.7, rtol=1e-3)
