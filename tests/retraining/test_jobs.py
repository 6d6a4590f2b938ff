"""What `train_many` takes and gives back, and where its models are kept: everything else is refused by name."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import trainings
from problems import close
from upweight.errors import InputError, UpweightWarning
from upweight.evaluation.training import Training
from upweight.files import NotWrittenError
from upweight.retraining import TrainingFailedError, random_halves, train_many

JOBS = [(half, seed) for seed, half in enumerate(random_halves(20, 2, seed=3))]
MODEL = nn.Linear(3, 1)

pytestmark = pytest.mark.usefixtures("unchecked")


def train(indices: Tensor, seed: int) -> Tensor:
    return torch.full((4,), float(seed))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no jobs": ({"jobs": None}, "jobs: give pairs .*; got None"),
    "a number": ({"jobs": 3}, "jobs: give pairs .*; got 3"),
    "text": ({"jobs": "ab"}, "jobs: give pairs .*; got 'ab'"),
    "no pairs": ({"jobs": [1, 2]}, "jobs: give pairs .*; number 0 is 1"),
    "triples": ({"jobs": [([0], 0), ([1], 2, 3)]}, r"jobs: give pairs .*; number 1 is \(\[1\], 2, 3\)"),
    "none": ({"jobs": []}, "jobs: give one or more"),
    "positions of text": ({"jobs": [("abc", 0)]}, "jobs, number 0: give a list of one or more positions.*'abc'"),
    "no positions": ({"jobs": [(None, 0)]}, "jobs, number 0: give a list .*; got None"),
    "a set": ({"jobs": [({0, 1}, 0)]}, "jobs, number 0: give a list"),
    "fractions": ({"jobs": [([0.5], 0)]}, "jobs, number 0: give a list"),
    "complex positions": ({"jobs": [([1j], 0)]}, "jobs, number 0: give a list"),
    "a mask": ({"jobs": [([True, False], 0)]}, "jobs, number 0: give a list"),
    "ragged": ({"jobs": [([[0], [1, 2]], 0)]}, "jobs, number 0: give a list"),
    "huge": ({"jobs": [([2**70], 0)]}, "jobs, number 0: give a list"),
    "positions of the meta device": ({"jobs": [(torch.ones(1, device="meta").long(), 0)]}, "jobs, number 0: a tensor"),
    "masked positions": ({"jobs": [(np.ma.masked_array([1, 2], mask=[1, 0]), 0)]}, "jobs, number 0: a masked array"),
    "below 0": ({"jobs": [([0], 0), ([-1], 0)]}, "jobs, number 1: positions are 0 or more; got -1"),
    "folder": ({"folder": 3}, "folder: give text, or a path, or None; got 3"),
    "bytes": ({"folder": b"x"}, "folder: give text, or a path, or None; got b'x'"),
    "empty": ({"folder": ""}, "folder: give the name of a file or folder; got ''"),
    "no model": ({"model": None}, "model: give a torch.nn.Module; got None"),
    "a class": ({"model": nn.Linear}, "model: give a torch.nn.Module; got the class Linear"),
    "meta": ({"model": nn.Linear(3, 1, device="meta")}, "model: 'weight' is on the meta device"),
    "lazy": ({"model": nn.LazyLinear(1)}, "model: 'weight' is of a lazy module"),
    "no parameters": ({"model": nn.ReLU()}, "p = 0|no parameter"),
    "train": ({"train": 3}, "train: give a function .*; got 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_call_is_refused_before_training(case: str) -> None:
    called: list[int] = []

    def record(indices: Tensor, seed: int) -> Tensor:
        called.append(seed)
        return train(indices, seed)

    given, told = BAD[case]
    with pytest.raises(InputError, match=told):
        train_many(**{"train": record, "jobs": JOBS, "model": MODEL, **given})
    assert not called


def test_jobs_may_come_from_anything_that_gives_pairs() -> None:
    expected = train_many(train, JOBS, model=MODEL)
    for jobs in ((job for job in JOBS), tuple(JOBS), [list(job) for job in JOBS]):
        close(train_many(train, jobs, model=MODEL).params, expected.params)
    found = train_many(train, [(np.arange(3), np.int64(5)), (range(2), torch.tensor(6))], model=MODEL)
    assert found.seeds == (5, 6)
    assert [subset.tolist() for subset in found.subsets] == [[0, 1, 2], [0, 1]]


@pytest.mark.parametrize("seeds", [3, "ab", [1.7], ["a"], [True], [-4], []])
def test_seeds_of_a_training_are_checked(seeds: Any) -> None:
    with pytest.raises(InputError, match="seeds: give"):
        Training(train, seeds)


class Counting(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.int64):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.register_buffer("seen", torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize(
    ("result", "model", "told"),
    [
        (torch.ones(4, dtype=torch.int64), MODEL, "the vector that it returned is torch.int64; give real floating"),
        (torch.ones(4, dtype=torch.complex64), MODEL, "the vector that it returned is torch.complex64"),
        (torch.ones(4, dtype=torch.bool), MODEL, "the vector that it returned is torch.bool"),
        (torch.ones(4, device="meta"), MODEL, "the vector that it returned is on the meta device"),
        (nn.Linear(3, 1, dtype=torch.complex64), MODEL, "'weight' that it returned is torch.complex64"),
        (nn.Linear(3, 1, device="meta"), MODEL, "'weight' that it returned is on the meta device"),
        (Counting(torch.float32), Counting(), "'seen' that it returned is torch.float32, and torch.int64 in model"),
    ],
)
def test_a_result_of_another_kind_of_number_is_refused(result: Any, model: nn.Module, told: str) -> None:
    with pytest.raises(TrainingFailedError, match=told):
        train_many(lambda indices, seed: result, JOBS, model=model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_result_keeps_its_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    third = torch.full((4,), 1 / 3, dtype=dtype)

    def own(indices: Tensor, seed: int) -> Tensor:
        return third

    for _ in range(2):  # trained, and read back
        found = train_many(own, JOBS, model=MODEL, folder=tmp_path)
        assert found.params.dtype == dtype
        assert torch.equal(found.params, third.expand(2, 4))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_function_that_changes_its_folder_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        (tmp_path / str(number)).mkdir()

    def moving(indices: Tensor, seed: int) -> Tensor:
        os.chdir(tmp_path / str(seed))
        return train(indices, seed)

    train_many(moving, JOBS, model=MODEL, folder="models", workers=workers)
    assert len(list((tmp_path / "models").glob("*.pt"))) == 2
    assert not list(tmp_path.glob("?/*"))


def whole(content: Any) -> bytes:
    """A file as it is kept, but with something else in it."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    inside = content if isinstance(content, bytes) else buffer.getvalue()
    return hashlib.sha256(inside).hexdigest().encode() + b"\n" + inside


@pytest.mark.parametrize(
    "content", [b"", b"text", {"a": 1}, [1, 2], torch.ones(4), {"shapes": {}, "params": 1, "constants": 2}], ids=str
)
def test_a_whole_file_with_something_else_in_it_is_named_and_kept(tmp_path: Path, content: Any) -> None:
    train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path)
    file = sorted(tmp_path.glob("*.pt"))[0]
    file.write_bytes(whole(content))
    with pytest.raises(InputError, match="holds no trained model; move it away") as raised:
        train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path)
    assert str(raised.value).startswith(f"folder: {file} ")
    assert file.read_bytes() == whole(content)


def test_a_folder_in_a_file_s_place_is_named(tmp_path: Path) -> None:
    train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path)
    file = sorted(tmp_path.glob("*.pt"))[0]
    file.unlink()
    file.mkdir()
    with pytest.raises(InputError, match=r"can't be read .*move it away"):
        train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path)


def test_a_file_in_the_folder_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("theirs")
    with pytest.raises(NotWrittenError, match=r"folder: .*models is no folder; give another path"):
        train_many(trainings.least_squares, JOBS, model=MODEL, folder=tmp_path / "models")
    assert (tmp_path / "models").read_text() == "theirs"


def test_models_of_a_function_that_can_not_be_known_again_are_not_kept(tmp_path: Path) -> None:
    stream = sys.__stderr__

    def printing(indices: Tensor, seed: int) -> Tensor:
        print(end="", file=stream)
        return train(indices, seed)

    with pytest.warns(
        UpweightWarning, match=r"folder: train .* \(stream: _io.TextIOWrapper\); no model is kept or read"
    ):
        train_many(printing, JOBS, model=MODEL, folder=tmp_path)
    assert not list(tmp_path.iterdir())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_many(printing, JOBS, model=MODEL)


def test_settings_that_change_train_anew(tmp_path: Path) -> None:
    from argparse import Namespace
    from functools import partial

    def scaled(settings: Namespace, indices: Tensor, seed: int) -> Tensor:
        return torch.full((4,), settings.scale)

    for scale in (1.0, 2.0, 1.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UpweightWarning)  # that others are there
            found = train_many(partial(scaled, Namespace(scale=scale)), JOBS, model=MODEL, folder=tmp_path)
        assert found.params[0, 0] == scale
    assert len(list(tmp_path.glob("*.pt"))) == 4
