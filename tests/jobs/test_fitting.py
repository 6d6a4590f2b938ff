"""An inverse that was fitted by shards is the one that is fitted whole, and comes back from its store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import upweight as uw
from jobs.test_attributing import _Dying, _Killed, contents, influence, objective, queries
from upweight.executors import Processes
from upweight.jobs import fitting, solvers
from upweight.store.tensors import pack, unpack

pytestmark = pytest.mark.filterwarnings("ignore::upweight.NotStationaryWarning")

FITTED: dict[str, Callable[[], Any]] = {
    "ekfac": uw.inverse.EKFAC,
    "ekfac of the GGN": lambda: uw.inverse.EKFAC(uw.curvature.GGN(), damping=0.1),
    "ekfac, few": lambda: uw.inverse.EKFAC(tolerance=0, query_rank=2, penalized=False),
    "kfac": uw.inverse.KFAC,
    "kfac by eigenvalue": lambda: uw.inverse.KFAC(uw.curvature.EmpiricalFisher(), damping_rule="eigenvalue"),
    "diagonal": uw.inverse.Diagonal,
    "dual": uw.inverse.Dual,
    "dual of few rows": lambda: uw.inverse.Dual(rows=20),
    "dual of the Fisher": lambda: uw.inverse.Dual(uw.curvature.Fisher(2)),
    "dual of the empirical": lambda: uw.inverse.Dual(uw.curvature.EmpiricalFisher()),
}


@pytest.mark.parametrize("name", FITTED)
def test_fitted_by_shards_and_whole(tmp_path: Path, name: str) -> None:
    made = objective().to(torch.float64)
    whole = uw.Influence(made, FITTED[name]())
    by_shards = uw.Influence(made, FITTED[name]()).fit(tmp_path / "store")
    v = torch.randn(3, made.p, generator=torch.Generator().manual_seed(0), dtype=made.dtype)
    torch.testing.assert_close(by_shards.solve(v).x, whole.solve(v).x, rtol=1e-8, atol=1e-8)
    assert by_shards.solver.damping == pytest.approx(whole.solver.damping)
    read = uw.Influence(objective().to(torch.float64), FITTED[name]()).fit(tmp_path / "store")
    assert torch.equal(read.solve(v).x, by_shards.solve(v).x)
    assert read.solver.damping == by_shards.solver.damping
    assert getattr(read.solver, "name", "") == getattr(whole.solver, "name", "")
    torch.testing.assert_close(read.attribute(queries()).scores, whole.attribute(queries()).scores)


def test_the_store_of_a_fit_holds_no_parts(tmp_path: Path) -> None:
    influence().fit(tmp_path / "store")
    assert {path.name for path in (tmp_path / "store" / "blocks").iterdir()} == {"factors"}
    with pytest.raises(uw.InputError, match="holds factors, and no scores"):
        uw.Stored.open(tmp_path / "store")
    with pytest.raises(uw.InputError, match="inverse="):
        influence(uw.inverse.KFAC()).fit(tmp_path / "store")
    with pytest.raises(uw.InputError, match="resume=True"):
        influence().fit(tmp_path / "store", resume=False)
    with pytest.raises(uw.InputError, match="kind"):
        influence().attribute(queries(), store=tmp_path / "store")


@pytest.mark.parametrize("after", [0, 3, 16, 20])
def test_a_fit_that_was_ended_goes_on_to_the_same_bytes(tmp_path: Path, after: int) -> None:
    influence().fit(tmp_path / "whole")
    place, ended = tmp_path / "store", 0
    for _ in range(2):
        try:
            influence().fit(place, executor=_Dying(after, "fitting"))
        except _Killed:
            ended += 1
    assert ended == (2 if after < 3 else 1 if after < 16 else 0) or after == 3
    influence().fit(place)
    assert contents(place) == contents(tmp_path / "whole")


@pytest.mark.filterwarnings("ignore::upweight.SlowPathWarning")
def test_blocks_that_are_products_in_some_batches_only(tmp_path: Path) -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 40), nn.Linear(40, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.first(x).tanh()
            return self.second(hidden) if len(x) % 2 else hidden @ self.second.weight.T + self.second.bias

    torch.manual_seed(0)
    x, y = torch.randn(33, 4), torch.randint(3, (33,))
    made = uw.Objective(Sometimes(), uw.losses.CrossEntropy(), (x, y), l2=0.1)
    found = uw.Influence(made, uw.inverse.EKFAC()).fit(tmp_path / "store")
    v = torch.randn(2, made.p)
    torch.testing.assert_close(
        found.solve(v).x, uw.Influence(made, uw.inverse.EKFAC()).solve(v).x, rtol=1e-3, atol=1e-4
    )


def test_a_job_keeps_what_it_fitted_until_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "store"
    with pytest.raises(_Killed):
        influence().attribute(queries(), store=place, shard_size=8, executor=_Dying(3))
    assert (place / "blocks" / "factors").exists()
    monkeypatch.setattr(fitting, "side_sums", None)  # would be called
    found = influence().attribute(queries(), store=place)
    assert not (place / "blocks" / "factors").exists()
    monkeypatch.undo()
    whole = influence().attribute(queries(), store=tmp_path / "whole", shard_size=8)
    assert torch.equal(found.scores[:, :], whole.scores[:, :])


@pytest.mark.parametrize("name", ["ekfac", "dual"])
def test_two_processes(tmp_path: Path, name: str) -> None:
    here = influence(FITTED[name]()).attribute(queries(), store=tmp_path / "here", shard_size=8)
    there = influence(FITTED[name]()).attribute(
        queries(), store=tmp_path / "there", shard_size=8, executor=Processes(2, threads=1)
    )
    torch.testing.assert_close(there.scores[:, :], here.scores[:, :])


def test_factors_of_another_model_are_refused() -> None:
    packed = solvers.packed(influence().solver)
    assert packed is not None
    tensors, facts = unpack(pack(*packed))
    other = uw.Objective(nn.Linear(6, 3), uw.losses.CrossEntropy(), objective().data.take(list(range(53))), l2=0.01)
    with pytest.raises(uw.InputError, match="doesn't have"):
        solvers.unpacked(other, tensors, facts)
    assert solvers.packed(influence(uw.inverse.CG(uw.curvature.GGN(), damping=0.1)).solver) is None
