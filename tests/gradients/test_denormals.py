"""Denormals are flushed in every thread of torch's pool, and come back in every one."""

import pytest
import torch

from upweight.gradients import denormals
from upweight.gradients.denormals import flushed

TINY = torch.full((2_000_000,), 1e-20)


def kept() -> float:
    """The share of products that are denormal numbers and not 0: by blocks, each in a thread of its own."""
    return float((TINY * TINY != 0).double().mean())


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> int:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.skipif(denormals._carrier() is None, reason="torch's pool can't be reached here")
def test_every_thread_flushes_and_is_set_back(threads: int) -> None:
    assert kept() == 1.0  # the pool has run
    with flushed():
        assert kept() == 0.0
        with flushed():
            assert kept() == 0.0
        assert kept() == 0.0
    assert kept() == 1.0
    with pytest.raises(KeyError), flushed():
        raise KeyError
    assert kept() == 1.0


def test_without_a_pool_the_caller_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denormals, "_carrier", lambda: None)
    with flushed():
        assert float(torch.tensor(1e-40) * 1.0) == 0
    assert float(torch.tensor(1e-40) * 1.0) != 0
