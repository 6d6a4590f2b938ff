"""Where an attribution is saved: what else is there stays, and no path is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr

from problems import close
from saved import SCORES, attribution, data_of, names
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.store.attributions import MARKER


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


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("given", [None, 3, "", b"result", [], "x" * 300, "a/" * 3000, "a\0", "\ud800"])
def test_what_is_no_path_is_refused(given: Any) -> None:
    for call in (Attribution.load, attribution().save):
        with pytest.raises(InputError, match=r"^path: "):
            call(given)


@pytest.mark.parametrize(
    "occupy",
    [
        lambda path: path.mkdir() or (path / "thesis.txt").write_text("years of work"),
        lambda path: path.mkdir() or (path / "data-mine").mkdir(),
        lambda path: path.write_text("years of work"),
        lambda path: path.mkdir() or (path / MARKER).write_text('{"mine": 1}'),
        lambda path: path.mkdir() or (path / MARKER).write_text("0" * 64 + "1"),
        lambda path: zarr.open_group(path, mode="w").attrs.update({"mine": 1}),
    ],
    ids=["folder", "similar folder", "file", "a file of the marker's name", "digits", "another zarr"],
)
def test_what_is_no_result_is_not_overwritten(tmp_path: Path, occupy: Callable[[Path], object]) -> None:
    path = tmp_path / "result"
    occupy(path)
    before = [(file.relative_to(path), file.read_bytes()) for file in data_of(path)]
    with pytest.raises(InputError, match="exists and is not a saved attribution; choose another path"):
        attribution().save(path)
    assert path.exists()
    assert [(file.relative_to(path), file.read_bytes()) for file in data_of(path)] == before
    with pytest.raises(InputError, match=r"holds no saved attribution|was cut or altered"):
        Attribution.load(path)


def test_a_file_that_the_marker_is_a_link_to_is_not_overwritten(tmp_path: Path) -> None:
    path = attribution().save(tmp_path / "result")
    (tmp_path / "thesis.txt").write_text("years of work")
    (path / MARKER).unlink()
    (path / MARKER).symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(InputError, match="exists and is not a saved attribution; choose another path"):
        attribution().save(path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("content", ["", "0", "0" * 63, "0" * 64, "0" * 64 + "\n", "0" * 64 + "\n{"])
def test_a_marker_that_was_cut_is_replaced(tmp_path: Path, content: str) -> None:
    path = attribution().save(tmp_path / "result")
    (path / MARKER).write_text(content)
    attribution(scores=2 * SCORES).save(path)
    close(Attribution.load(path).scores, 2 * SCORES)


def test_nothing_is_saved_among_the_data_of_another(tmp_path: Path) -> None:
    path = attribution().save(tmp_path / "result")
    (data,) = (entry for entry in path.iterdir() if entry.is_dir())
    for place in (data, data / "inner", data / "deep" / "inner"):
        with pytest.raises(InputError, match=r"^path: .* lies in the data of another saved attribution; choose"):
            attribution().save(place)
    close(Attribution.load(path).scores, SCORES)


def test_a_place_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(
        InputError, match=rf"^path: {loop}/{MARKER} can't be read \(Too many levels of symbolic links\)"
    ):
        Attribution.load(loop)


def test_what_is_not_there_or_not_readable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no saved attribution"):
        Attribution.load(tmp_path / "nowhere")
    (tmp_path / "rubbish").mkdir()
    (tmp_path / "rubbish" / "zarr.json").write_text("not json")
    with pytest.raises(InputError, match="holds no saved attribution"):
        Attribution.load(tmp_path / "rubbish")


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
