"""Steps of several processes are one recording: the first writes it, with the examples of all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

import upweight as uw
from upweight.frameworks.order import Order
from upweight.frameworks.recorded import gathered
from upweight.store import Memory

PROGRAM = """
import sys
import torch, torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler
from upweight.frameworks.recorded import Recorded

rank, meeting, place = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
data = torch.arange(12.0)[:, None]
loader = DataLoader(data, batch_size=2, sampler=DistributedSampler(data, 2, rank, shuffle=False))
model = nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
recorded = Recorded(place, 2, moments=None, frozen=True)
recorded.begin(model, optimizer, 0)
recorded.order.watch(loader)
for _ in loader:
    recorded.batch()
    recorded.step([0.1])
recorded.end()
dist.barrier()
dist.destroy_process_group()
"""


def test_the_examples_of_a_step_are_those_of_all_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM]
    arguments = [str(tmp_path / "meeting"), str(tmp_path / "run")]
    both = [subprocess.Popen([*command, str(rank), *arguments]) for rank in range(2)]
    assert [each.wait(timeout=120) for each in both] == [0, 0]
    run = uw.Recording.open(tmp_path / "run")
    assert run.steps == [2, 3]
    assert [step.tolist() for step in run.order] == [[0, 2, 1, 3], [4, 6, 5, 7], [8, 10, 9, 11]]


def test_one_process_has_nothing_to_gather() -> None:
    assert gathered([[1, 2], None]) == [[1, 2], None]


def batches(data_loader: DataLoader[int], order: Order) -> list[tuple[list[int], list[int] | None]]:
    return [(batch.tolist(), order.take()) for batch in data_loader]


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 3, "shuffle": True},
        {"batch_size": 3, "shuffle": True, "drop_last": True, "num_workers": 1},
        {"batch_sampler": BatchSampler(RandomSampler(range(8)), 3, drop_last=False)},
        {"batch_size": None, "shuffle": True},
        {"batch_size": None, "sampler": BatchSampler(RandomSampler(range(8)), 3, drop_last=False)},
    ],
)
def test_any_loader_s_batches_are_told_and_its_sampler_is_given_back(options: dict[str, object]) -> None:
    made: DataLoader[int] = DataLoader(torch.arange(8), **options)  # type: ignore[arg-type]
    own, order = (made.batch_sampler, made.sampler), Order()
    torch.manual_seed(3)
    untouched = [batch.tolist() for batch in made]
    order.watch(made)
    torch.manual_seed(3)
    for epoch in range(2):
        for number, (batch, taken) in enumerate(batches(made, order)):
            assert taken == (batch if isinstance(batch, list) else [batch])
            assert epoch or batch == untouched[number]
    order.leave()
    assert (made.batch_sampler, made.sampler) == own


def test_batches_that_are_passed_over_and_those_of_a_validation_are_not_taken() -> None:
    is_training = True
    made: DataLoader[int] = DataLoader(torch.arange(6), batch_size=2)  # type: ignore[arg-type]
    order = Order()
    order.watch(made, lambda: is_training)
    order.skip(1)
    given = iter(made)
    next(given), next(given)
    assert order.take() == [2, 3]
    is_training = False
    list(made)
    assert order.take() is None  # what was taken from it, it doesn't know
    assert order.why


def test_keys_that_are_no_positions_and_streams_are_told_by_name() -> None:
    class Keyed(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, key: str) -> int:
            return ord(key)

    keyed: DataLoader[int] = DataLoader(Keyed(), sampler=["a", "b"])  # type: ignore[arg-type]
    order = Order()
    order.watch(keyed)
    list(keyed)
    assert order.take() is None
    assert order.why == "its sampler gives something else than positions"
    for wrong, words in (([1, 2], "no DataLoader"), (DataLoader(keyed, num_workers=1, in_order=False), "in_order")):  # type: ignore[arg-type]
        order.watch(wrong)
        assert words in order.why
        assert order.take() is None


@pytest.mark.parametrize(("module", "package"), [("on_trainer", "transformers"), ("on_lightning", "lightning")])
def test_a_framework_that_is_not_installed_is_told_with_the_way_to_it(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, f"upweight.frameworks.{module}", raising=False)
    both = ("lightning.pytorch", "pytorch_lightning")
    for name in (package, *both, *(f"{each}.callbacks" for each in both)):
        monkeypatch.setitem(sys.modules, name, None)
    make = {"transformers": uw.trainer_recorder, "lightning": uw.lightning_recorder}[package]
    with pytest.raises(uw.MissingExtraError, match=rf"needs {package}, which is not installed; pip install {package}"):
        make(Memory())
