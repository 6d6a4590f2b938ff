"""A damaged attribution is refused by the name of the file: bytes, files, and every entry of its description."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from problems import close
from saved import SCORES, attribution, data_of
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.solve_report import SolveReport
from upweight.store.attributions import MARKER


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = attribution(scores=SCORES[:, :2], ids=(1, 2)).save(tmp_path_factory.mktemp("small") / "result")
    return path


def test_no_byte_can_be_altered(small: Path) -> None:
    """Each byte of each file in turn, by its lowest and by another bit."""
    flipped = 0
    for file in data_of(small):
        whole = file.read_bytes()
        for position in range(len(whole)):
            for bit in (1, 1 << position % 7 + 1):
                altered = bytearray(whole)
                altered[position] ^= bit
                file.write_bytes(altered)
                with pytest.raises(InputError, match="damaged") as error:
                    Attribution.load(small)
                assert file.name in str(error.value)
                flipped += 1
        file.write_bytes(whole)
    assert flipped > 2000
    close(Attribution.load(small).scores, SCORES[:, :2])


def test_no_file_can_be_missing_cut_or_added(small: Path) -> None:
    for file in data_of(small):
        whole = file.read_bytes()
        for length in {0, 1, len(whole) // 2, len(whole) - 1}:
            file.write_bytes(whole[:length])
            with pytest.raises(InputError, match=r"bytes instead of|was cut or altered"):
                Attribution.load(small)
        file.unlink()
        with pytest.raises(InputError, match=r"is missing|holds no saved attribution"):
            Attribution.load(small)
        file.write_bytes(whole)
    (folder,) = (entry for entry in small.iterdir() if entry.is_dir())
    (folder / "more").write_text("")
    with pytest.raises(InputError, match="more is none of its files"):
        Attribution.load(small)
    (folder / "more").unlink()
    close(Attribution.load(small).scores, SCORES[:, :2])


def edited(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """The description changed by somebody who knows about the checksum."""
    said = json.loads((path / MARKER).read_bytes().partition(b"\n")[2])
    edit(said["description"])
    text = json.dumps(said).encode()
    (path / MARKER).write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def solve(**changes: Any) -> dict[str, Any]:
    return SolveReport("CG", 0.1, 3, torch.zeros(2), 1e-6, 0.5).to_dict() | changes


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "damping, text": (lambda said: said.update(damping="x"), "damping can't be 'x'"),
    "damping, flag": (lambda said: said.update(damping=True), "damping can't be True"),
    "damping, negative": (lambda said: said.update(damping=-1.0), "damping can't be -1.0"),
    "damping, NaN": (lambda said: said.update(damping=math.nan), "damping can't be nan"),
    "facts, list": (lambda said: said.update(facts=[1]), r"facts can't be \[1\]"),
    "facts, text": (lambda said: said.update(facts={"n": "many"}), "facts can't be"),
    "report": (lambda said: said.update(report=None), "report can't be None"),
    "quantity": (lambda said: said.update(quantity="removal"), "quantity can't be 'removal'"),
    "quantity, less": (lambda said: said["quantity"].pop("unit"), "quantity can't be"),
    "quantity, number": (lambda said: said["quantity"].update(unit=1), "quantity.unit can't be 1"),
    "sign": (lambda said: said["quantity"].update(helpful_sign=2), "quantity.helpful_sign can't be 2"),
    "solve, number": (lambda said: said.update(solve=3), "solve can't be 3"),
    "solve, text": (lambda said: said.update(solve="CG"), "solve can't be 'CG'"),
    "solve, more": (lambda said: said.update(solve=solve(more=1)), "solve can't be {"),
    "solve, less": (lambda said: said.update(solve={"solver": "CG"}), "solve can't be {'solver': 'CG'}"),
    "magnitude, text": (lambda said: said.update(magnitude="trusted"), "magnitude can't be 'trusted'"),
    "magnitude, more": (
        lambda said: said.update(magnitude={"trusted": True, "reason": "", "more": 1}),
        "magnitude can't be {",
    ),
    "ids, fewer": (lambda said: said["ids"]["values"].pop(), "scores can't be"),
    "ids, nested": (lambda said: said["ids"].update(values=[["a"], ["b"], ["c"], ["d"]]), "ids can't be"),
    "ids, kind": (lambda said: said["ids"].update(kind="no kind"), "ids can't be"),
    "ids, fractions": (lambda said: said["ids"].update(kind="<i8", values=[1, 2.5, 3, 4]), "ids can't be"),
    "ids, twice": (
        lambda said: said["ids"].update(values=["a", "a", "c", "d"]),
        "ids must be unique: 'a' stands 2 times",
    ),
    "query_ids, twice": (lambda said: said["query_ids"].update(values=[1, 1]), "query_ids must be unique: 1 stands 2"),
    "ids, objects": (lambda said: said.update(ids={"kind": "|O", "values": ["a", None, {}, [1]]}), "ids can't be"),
    "ids, missing": (lambda said: said.update(ids={"kind": "|O", "values": ["a", None, "c", "d"]}), "ids can't be"),
    "ids, 1 and True": (lambda said: said.update(ids={"kind": "|O", "values": [1, True, "c", "d"]}), "ids must be"),
    "damping, huge": (lambda said: said.update(damping=10**400), "damping can't be 1000"),
    "facts, NaN": (lambda said: said.update(facts={"n": math.nan}), "facts can't be {'n': nan}"),
    "facts, huge": (lambda said: said.update(facts={"n": -(10**400)}), "facts can't be"),
    "format, fraction": (lambda said: said.update(format=2.0), r"has format 2\.0; this version reads 1 and 2"),
    "ids, none": (lambda said: said.pop("ids"), "ids can't be None"),
    "query_ids": (lambda said: said.update(query_ids=3), "query_ids can't be 3"),
    "more": (lambda said: said.update(more=1), "entries can't be"),
    "format": (lambda said: said.update(format=99), "has format 99; this version reads 1 and 2"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_description_is_checked_entry_by_entry(tmp_path: Path, name: str) -> None:
    edit, message = EDITS[name]
    path = attribution().save(tmp_path / "result")
    edited(path, edit)
    with pytest.raises(InputError, match=message) as error:
        Attribution.load(path)
    assert MARKER in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": "../result"}, "no folder of its own"),
        ({"data": 3}, "doesn't hold data, files, description"),
        ({"description": 3}, "doesn't hold data, files, description"),
        ({"files": {"scores.zarr/zarr.json": 1}}, "says 1 of"),
        ({"more": 1}, "doesn't hold data, files, description"),
        *(
            ({"files": {name: {"bytes": 1, "sha256": ""}}}, "which can be no file of its own")
            for name in ("x" * 300, "x\0", "/etc/hosts", "../attribution.json", "\ud800")
        ),
    ],
)
def test_a_marker_is_checked_too(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = attribution().save(tmp_path / "result")
    said = json.loads((path / MARKER).read_bytes().partition(b"\n")[2]) | change
    text = json.dumps(said).encode()
    (path / MARKER).write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
    with pytest.raises(InputError, match=message):
        Attribution.load(path)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[", "\xff"])
def test_a_marker_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = attribution().save(tmp_path / "result")
    content = text.encode()
    (path / MARKER).write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
    with pytest.raises(InputError, match=f"{MARKER} is no JSON below its first line|doesn't hold"):
        Attribution.load(path)


@pytest.mark.parametrize("add", [os.mkfifo, lambda at: at.symlink_to("nowhere"), lambda at: at.symlink_to("/")])
def test_pipes_and_links_among_the_data_are_none_of_its_files(tmp_path: Path, add: Callable[[Path], object]) -> None:
    path = attribution().save(tmp_path / "result")
    (data,) = (entry for entry in path.iterdir() if entry.is_dir())
    add(data / "odd")
    with pytest.raises(InputError, match="odd is none of its files"):
        Attribution.load(path)
    file = data / "scores.zarr" / "zarr.json"
    file.unlink()
    os.mkfifo(file)  # in the place of a file
    with pytest.raises(InputError, match=r"zarr\.json is missing"):
        Attribution.load(path)


@pytest.mark.parametrize("add", [os.mkfifo, os.mkdir])
def test_a_marker_that_is_no_file_is_refused(tmp_path: Path, add: Callable[[Path], object]) -> None:
    path = attribution().save(tmp_path / "result")
    (path / MARKER).unlink()
    add(path / MARKER)
    with pytest.raises(InputError, match=f"{MARKER} is no file"):
        Attribution.load(path)
