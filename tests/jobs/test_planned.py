"""What a job is said to take on disk is what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import upweight as uw
from upweight.executors import Processes


@pytest.mark.filterwarnings("ignore::upweight.NotStationaryWarning")
@pytest.mark.parametrize("top_k", [None, 50])
def test_bytes_on_disk_and_shards(tmp_path: Path, top_k: int | None) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30_000, 6), torch.randint(3, (30_000,))
    objective = uw.Objective(nn.Linear(6, 3), uw.losses.CrossEntropy(), (x, y), l2=0.1)
    influence = uw.Influence(objective, uw.inverse.EKFAC())
    plan = influence.plan(300, stored=True, top_k=top_k, shard_size=4000)
    assert plan.shards is not None
    assert plan.shards.count == 8
    assert "8 shards of 4,000 examples" in str(plan)
    place = tmp_path / "store"
    stored = influence.attribute((x[:300], y[:300]), store=place, top_k=top_k, shard_size=4000)
    kept = place / "scores" if top_k is None else place / "blocks" / "extremes"
    found = sum(path.stat().st_size for path in [kept, *kept.rglob("*")] if path.is_file())
    assert found == pytest.approx(plan.shards.disk, rel=0.05)
    assert stored.shape == (300, 30_000)
    assert plan.shards.most_disk >= plan.shards.disk
    assert influence.plan(300).shards is None
    assert influence.plan(300, executor=Processes(2)).shards.workers == 2  # type: ignore[union-attr]
    with pytest.raises(uw.InputError, match="top_k"):
        influence.plan(300, top_k=-1)
