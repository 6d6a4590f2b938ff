"""A saved attribution comes back as it was or is refused by name; none is lost while another takes its place."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from problems import DOUBLE, close
from upweight import files
from upweight.attribution import Attribution, Quantity
from upweight.errors import InputError, UpweightWarning
from upweight.store.attributions import MARKER

SCORES = torch.tensor([[0.5, -1.0, 2.0, 0.5], [0.0, 3.0, -2.0, 0.0]], dtype=DOUBLE)
QUANTITY = Quantity("removal", "what it is", "nats", "good", 1)


def attribution(
    scores: Any = SCORES, ids: Any = ("a", "b", "c", "d"), query_ids: Any = (10, 20), **options: Any
) -> Any:
    return Attribution(scores, QUANTITY, np.asarray(ids), np.asarray(query_ids), **options)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def data_of(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file())


DATES = np.array(["2020-01-01", "2021-02-03", "2022-03-04", "NaT"], dtype="datetime64[D]")


@pytest.mark.parametrize(
    "ids",
    [
        ("a", "b", "ç", "d"),
        (7, 3, 5, 1),
        (0.5, 1.5, math.inf, -2.0),
        np.array([1, "b", 2.5, "d"], dtype=object),
        DATES,
    ],
    ids=["text", "whole", "float", "mixed", "dates"],
)
@pytest.mark.parametrize("own", [False, True])
def test_a_saved_result_comes_back_as_it_was(tmp_path: Path, ids: Any, own: bool) -> None:
    options: dict[str, Any] = {"scores": SCORES[0].float(), "query_ids": ()} if own else {}
    result = attribution(ids=ids, damping=0.1, report="x", facts={"ratio": 0.5, "far": math.inf}, **options)
    path = result.save(tmp_path / "deep" / "result")
    again = Attribution.load(path)
    assert torch.equal(again.scores, result.scores)
    assert again.scores.dtype == result.scores.dtype
    assert again.ids.dtype == result.ids.dtype
    assert list(map(str, again.ids.tolist())) == list(map(str, result.ids.tolist()))
    assert list(map(type, again.ids.tolist())) == list(map(type, result.ids.tolist()))
    assert again.query_ids.tolist() == result.query_ids.tolist()
    assert again.quantity == result.quantity
    assert (again.damping, again.report, again.facts) == (result.damping, result.report, result.facts)
    assert repr(again) == repr(result)
    assert names(path.parent) == ["result"]


def test_names_that_would_come_back_as_others_are_refused(tmp_path: Path) -> None:
    ids = np.empty(4, dtype=object)
    ids[:] = [(0, 1), (0, 2), (1, 1), (1, 2)]
    with pytest.raises(InputError, match=r"ids: \(0, 1\) is a tuple, which can't be saved; give strings"):
        attribution(ids=ids).save(tmp_path / "result")
    assert names(tmp_path) == []


def test_numbers_of_numpy_among_names_come_back_as_pythons(tmp_path: Path) -> None:
    ids = np.array([np.int64(1), np.str_("b"), np.float64(2.5), "d"], dtype=object)
    again = Attribution.load(attribution(ids=ids).save(tmp_path / "result"))
    assert again.ids.tolist() == ids.tolist()
    assert list(map(type, again.ids.tolist())) == [int, str, float, str]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("scores", [1.0, 2.0]),
        ("quantity", "removal"),
        ("quantity", Quantity),
        ("ids", "abcd"),
        ("query_ids", 3),
        ("damping", "small"),
        ("damping", -1.0),
        ("report", 3),
        ("facts", [1]),
    ],
)
def test_what_makes_no_attribution_is_refused(argument: str, value: Any) -> None:
    given = {"scores": SCORES, "quantity": QUANTITY, "ids": np.arange(4), "query_ids": np.arange(2), argument: value}
    with pytest.raises(InputError, match=f"^{argument}: "):
        Attribution(**given)


@pytest.mark.usefixtures("unchecked")
def test_names_may_be_given_as_a_list() -> None:
    assert Attribution(SCORES, QUANTITY, [*"abcd"], [1, 2]).top(1).ids.tolist() == [["c"], ["b"]]  # type: ignore[arg-type]


def test_saving_again_replaces_the_result_and_its_data(tmp_path: Path) -> None:
    attribution().save(tmp_path / "result")
    attribution(scores=2 * SCORES).save(tmp_path / "result")
    close(Attribution.load(tmp_path / "result").scores, 2 * SCORES)
    assert len(names(tmp_path / "result")) == 2


def test_a_link_is_followed(tmp_path: Path) -> None:
    attribution().save(tmp_path / "result")
    (tmp_path / "link").symlink_to("result")
    attribution(scores=2 * SCORES).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    close(Attribution.load(tmp_path / "result").scores, 2 * SCORES)


# Damage.


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


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("given", [None, 3, "", b"result", [], "x" * 300, "a/" * 3000, "a\0", "\ud800"])
def test_what_is_no_path_is_refused(given: Any) -> None:
    for call in (Attribution.load, attribution().save):
        with pytest.raises(InputError, match=r"^path: "):
            call(given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": math.inf}, "damping can't be inf, so it can't be saved"),
        ({"damping": -1}, "damping can't be -1"),
        ({"damping": "x"}, "damping can't be 'x'"),
        ({"facts": {"n": "many"}}, "facts can't be"),
        ({"facts": {"n": math.nan}}, "facts can't be {'n': nan}"),
        ({"ids": np.array(["a", "b", "c", "a"])}, "ids must be unique: 'a' stands 2 times"),
        ({"ids": np.array(["a", None, "c", "d"], dtype=object)}, "None is a NoneType, which can't be saved"),
        ({"damping": math.nan}, "damping can't be nan"),
        ({"ids": np.zeros((4, 1))}, "ids can't be"),
        ({"scores": SCORES.long()}, "scores can't be int64"),
    ],
)
def test_what_could_not_be_read_is_not_saved(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = attribution().save(tmp_path / "result")
    result = attribution()
    for name, value in options.items():
        object.__setattr__(result, name, value)  # past the checks that tests have and users haven't
    with pytest.raises(InputError, match=message):
        result.save(path)
    close(Attribution.load(path).scores, SCORES)


def test_numbers_of_other_libraries_and_scores_with_a_graph_or_of_half_precision_are_saved(tmp_path: Path) -> None:
    scores = SCORES.bfloat16().requires_grad_()
    result = attribution(scores=scores, ids=["\ud800", *"bcd"])
    object.__setattr__(result, "damping", np.float32(0.5))
    object.__setattr__(result, "facts", {"n": torch.tensor(4.0), "p": np.int64(3)})
    again = Attribution.load(result.save(tmp_path / "result"))
    close(again.scores, SCORES.float())
    assert (again.damping, again.facts, again.ids[0]) == (0.5, {"n": 4.0, "p": 3}, "\ud800")


# What else may be there.


@pytest.mark.parametrize(
    "occupy",
    [
        lambda path: path.mkdir() or (path / "thesis.txt").write_text("years of work"),
        lambda path: path.mkdir() or (path / "data-mine").mkdir(),
        lambda path: path.write_text("years of work"),
        lambda path: zarr.open_group(path, mode="w").attrs.update({"mine": 1}),
    ],
    ids=["folder", "similar folder", "file", "another zarr"],
)
def test_what_is_no_result_is_not_overwritten(tmp_path: Path, occupy: Callable[[Path], object]) -> None:
    path = tmp_path / "result"
    occupy(path)
    before = [(file.relative_to(path), file.read_bytes()) for file in data_of(path)]
    with pytest.raises(InputError, match="exists and is not a saved attribution; choose another path"):
        attribution().save(path)
    assert path.exists()
    assert [(file.relative_to(path), file.read_bytes()) for file in data_of(path)] == before
    with pytest.raises(InputError, match="holds no saved attribution"):
        Attribution.load(path)


def test_what_is_not_there_or_not_readable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no saved attribution"):
        Attribution.load(tmp_path / "nowhere")
    (tmp_path / "rubbish").mkdir()
    (tmp_path / "rubbish" / "zarr.json").write_text("not json")
    with pytest.raises(InputError, match="holds no saved attribution"):
        Attribution.load(tmp_path / "rubbish")


def first_format(path: Path, chunks: tuple[int, int] = (2, 2), **changes: Any) -> None:
    group = zarr.open_group(path, mode="w")
    group.create_array("scores", data=SCORES.numpy(), chunks=chunks)
    group.attrs["upweight"] = {
        "format": 1,
        "quantity": asdict(QUANTITY),
        "ids": ["a", "b", "c", "d"],
        "query_ids": [10, 20],
        "damping": 0.1,
        "report": "",
        "facts": {"n": 4.0},
        **changes,
    }


def test_the_first_format_is_read_if_all_of_it_is_there_and_replaced_by_the_second(tmp_path: Path) -> None:
    path = tmp_path / "result"
    first_format(path)
    with pytest.warns(UpweightWarning, match="saved without checksums"):
        result = Attribution.load(path)
    close(result.scores, SCORES)
    assert result.ids.tolist() == ["a", "b", "c", "d"]
    result.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        close(Attribution.load(path).scores, SCORES)
    assert not (path / "zarr.json").exists()
    assert len(names(path)) == 2


def test_the_first_format_is_refused_where_a_chunk_is_missing_or_an_entry_wrong(tmp_path: Path) -> None:
    path = tmp_path / "result"
    first_format(path)
    (path / "scores" / "c" / "0" / "1").unlink()
    with pytest.raises(InputError, match="has 1 of its 2 chunks"):
        Attribution.load(path)
    first_format(path)
    chunk = path / "scores" / "c" / "0" / "1"
    chunk.write_bytes(chunk.read_bytes()[:5])
    with pytest.warns(UpweightWarning), pytest.raises(InputError, match="its scores can't be read"):
        Attribution.load(path)
    first_format(path, damping="x")
    with pytest.warns(UpweightWarning), pytest.raises(InputError, match="damping can't be 'x'"):
        Attribution.load(path)
    first_format(path, format=99)
    with pytest.raises(InputError, match="has format 99; this version reads 1 and 2"):
        Attribution.load(path)


# Failures and kills in the middle.


@pytest.mark.parametrize("failing", range(1, 6))
@pytest.mark.parametrize("earlier", [True, False])
def test_a_full_disk_keeps_the_earlier_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int, earlier: bool
) -> None:
    """Full at each of the moments at which something is brought to the disk."""
    path = tmp_path / "result"
    if earlier:
        attribution().save(path)
    calls: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)
    try:
        attribution(scores=2 * SCORES).save(path)
    except files.NotWrittenError as error:
        assert "No space left on device" in str(error)  # noqa: PT017 - folders may be synced in vain
        assert str(path) in str(error)  # noqa: PT017
        monkeypatch.undo()
        if earlier:
            close(Attribution.load(path).scores, SCORES)
            assert len(names(path)) == 2
        assert names(tmp_path) == (["result"] if earlier else [])
    else:
        close(Attribution.load(path).scores, 2 * SCORES)
        assert len(names(path)) == 2


@pytest.mark.parametrize("earlier", [True, False])
def test_an_interrupt_right_after_the_marker_is_in_place_keeps_what_it_names(
    earlier: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "result"
    if earlier:
        attribution().save(path)
    real = os.replace

    def replace(draft: Path, target: Path) -> None:
        real(draft, target)
        if Path(target).name == MARKER:
            raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        attribution(scores=2 * SCORES).save(path)
    monkeypatch.undo()
    close(Attribution.load(path).scores, 2 * SCORES)
    attribution().save(path)
    assert len(names(path)) == 2


KILLED = """
import sys, time
import numpy as np, torch
from upweight.attribution import Attribution, Quantity
quantity = Quantity("removal", "what it is", "nats", "good", 1)
print("begun", flush=True)
number = 0
while True:
    number += 1
    Attribution(torch.full((2, 4), float(number)), quantity, np.arange(4), np.arange(2)).save(sys.argv[1])
    if number == 1:
        print("saved", flush=True)
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_at_any_moment_loses_nothing(tmp_path: Path, way: signal.Signals) -> None:
    """A process saves over and over; whenever it is killed, one of its results is there, whole."""
    path = tmp_path / "result"
    moments = random.Random(int(way))
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        assert process.stdout is not None
        assert [process.stdout.readline(), process.stdout.readline()] == ["begun\n", "saved\n"]
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(way)
        process.wait(timeout=30)
        scores = Attribution.load(path).scores
        assert (scores == scores[0, 0]).all()
        assert scores[0, 0] >= 1
        attribution().save(path)
        assert len(names(path)) == 2
        assert names(tmp_path) == ["result"]


def test_a_kill_before_the_first_result_is_in_place_leaves_a_place_to_save_to(tmp_path: Path) -> None:
    path = tmp_path / "result"
    (path / "upweight-data-0123456789abcdef").mkdir(parents=True)
    (path / "upweight-data-0123456789abcdef" / "part").write_text("")
    (path / f".{MARKER}.0123abcd.draft").write_text("")
    with pytest.raises(InputError, match="holds no saved attribution"):
        Attribution.load(path)
    attribution().save(path)
    close(Attribution.load(path).scores, SCORES)
    assert len(names(path)) == 2


def test_readers_and_writers_at_once_see_whole_results(tmp_path: Path) -> None:
    path = tmp_path / "result"
    attribution(scores=torch.zeros(2, 4)).save(path)
    failures: list[BaseException] = []

    def save(first: int) -> None:
        try:
            for number in range(first, first + 15):
                attribution(scores=torch.full((2, 4), float(number))).save(path)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=save, args=(first,)) for first in (0, 100)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        scores = Attribution.load(path).scores
        assert (scores == scores[0, 0]).all()
    assert not failures
    assert Attribution.load(path).scores[0, 0] in (14.0, 114.0)
    attribution().save(path)
    assert len(names(path)) == 2


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("folder", [True, False])
def test_a_folder_of_the_users_own_stays(tmp_path: Path, earlier: bool, folder: bool) -> None:
    """Called by a date, say, beside a saved result; alone it is another result's place."""
    place, mine = tmp_path / "results", tmp_path / "results" / "data-20261128"
    if earlier:
        attribution().save(place)
    place.mkdir(exist_ok=True)
    if folder:
        mine.mkdir()
        (mine / "m.csv").write_text("1,2")
    else:
        mine.write_text("1,2")
    if earlier:
        attribution().save(place)
    else:
        with pytest.raises(InputError, match="is not a saved attribution"):
            attribution().save(place)
    assert (mine / "m.csv" if folder else mine).read_text() == "1,2"
