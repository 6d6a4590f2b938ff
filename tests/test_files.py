"""Files are whole or not there, what was there is kept until the new is in place, and killed writers leave nothing."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from upweight import files
from upweight.files import NotWrittenError

WRITER = """
import sys, time
from pathlib import Path
from upweight import files
def slow(stream):
    stream.write(b"half")
    stream.flush()
    print("begun", flush=True)
    time.sleep(60)
if sys.argv[2] == "file":
    files.write(sys.argv[1], slow)
else:
    with files.new_folder(Path(sys.argv[1]), lambda: False):
        (Path(sys.argv[1]) / "part").write_text("half")
        print("begun", flush=True)
        time.sleep(60)
"""


@contextmanager
def writing(path: Path, kind: str) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of writing ``path``."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), kind], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def full(stream: IO[bytes]) -> None:
    stream.write(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("content", [b"caf\xc3\xa9", "café", lambda stream: stream.write("café".encode())])
def test_content_of_every_kind_arrives_and_folders_are_made(content: files.Content, tmp_path: Path) -> None:
    path = files.write(tmp_path / "a" / "b" / "c.txt", content)
    assert path.read_text(encoding="utf-8") == "café"
    assert names(path.parent) == ["c.txt"]


def test_others_may_read_what_the_user_lets_them(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    written = files.write(tmp_path / "written", "")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_a_full_disk_names_the_file_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(NotWrittenError, match=r"scores\.csv: can't be written \(No space left on device\)"):
        files.write(path, full)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["scores.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_torch_is_told_as_one(tmp_path: Path) -> None:
    """torch.save raises a RuntimeError of its own over the system's error."""

    def save(stream: IO[bytes]) -> None:
        with open("/dev/full", "wb") as device:
            torch.save({"weight": torch.zeros(10_000)}, device)

    with pytest.raises(NotWrittenError, match=r"model\.pt: can't be written \(No space left on device\)"):
        files.write(tmp_path / "model.pt", save)
    assert names(tmp_path) == []


def test_other_faults_of_a_writer_stay_what_they_are(tmp_path: Path) -> None:
    def wrong(stream: IO[bytes]) -> None:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        files.write(tmp_path / "a", wrong)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_between_two_files_leaves_none_of_the_new(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, done = os.link, []

    def second(draft: Path, target: Path) -> None:
        done.append(target)
        if len(done) == 2:
            raise error
        link(draft, target)

    monkeypatch.setattr(os, "link", second)
    monkeypatch.setattr(os, "replace", second)
    with pytest.raises(error):
        files.write_all({tmp_path / "a": "new", tmp_path / "b": "new"}, replace=False)
    assert names(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupt_right_after_a_file_is_in_place_leaves_none_of_the_new(
    at: int, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def interrupted(folder: Path) -> None:
        done.append(folder)
        if len(done) == at:
            raise KeyboardInterrupt

    def no_link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(files, "_sync_folder", interrupted)
    if not links:
        monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(KeyboardInterrupt):
        files.write_all({tmp_path / "a": "new", tmp_path / "b": "new"}, replace=False)
    assert names(tmp_path) == []


def test_of_several_files_all_are_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(NotWrittenError, match="b: can't be written"):
        files.write_all({tmp_path / "a": "new", tmp_path / "b": full})
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_without_leave_nothing_is_replaced_and_no_half_pair_stays(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("old")
    with pytest.raises(FileExistsError):
        files.write_all({tmp_path / "a": "new", tmp_path / "b": "new"}, replace=False)
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "old"
    assert files.write(tmp_path / "a", "new", replace=False).read_text() == "new"


def test_nothing_is_replaced_where_links_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    assert files.write(tmp_path / "a", "new", replace=False).read_text() == "new"
    with pytest.raises(FileExistsError):
        files.write(tmp_path / "a", "newer", replace=False)
    assert (tmp_path / "a").read_text() == "new"
    assert names(tmp_path) == ["a"]


def test_what_a_link_points_to_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    files.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "new"
    assert names(tmp_path / "there") == ["file"]


def test_a_living_writer_keeps_its_draft_and_a_killed_one_s_is_cleared(tmp_path: Path) -> None:
    place = tmp_path / "page"
    with writing(place, "file") as process:
        assert len(names(tmp_path)) == 1
        assert files.clear(place) == []
        files.write(place, "mine")
        assert len(names(tmp_path)) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(names(tmp_path)) == 2
        files.write(place, "mine again")
    assert names(tmp_path) == ["page"]
    assert place.read_text() == "mine again"


def test_a_folder_is_removed_once_nobody_writes_it_and_nobody_wants_it(tmp_path: Path) -> None:
    place = tmp_path / "data"
    with writing(place, "folder") as process:
        assert not files.remove_if_free(place)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert names(place) == ["part"]
        assert not files.remove_if_free(place, lambda folder: folder.name != "data")
        assert files.remove_if_free(place)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_took_the_place_of_one_left_behind_stays(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "data"
    make = (lambda: place.write_text("")) if kind == "file" else place.mkdir
    make()
    opened = os.open

    def replaced(*arguments: Any) -> int:
        descriptor = opened(*arguments)
        place.rename(tmp_path / "gone")
        make()
        return descriptor

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", replaced)
        assert not files.remove_if_free(place)
    assert names(tmp_path) == ["data", "gone"]
    assert files.remove_if_free(place)
    assert names(tmp_path) == ["gone"]


@pytest.mark.parametrize("moment", ["open", "_lock"])
def test_a_folder_that_another_clears_before_it_is_locked_is_made_again(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, cleared = tmp_path / "data", []
    owner = os if moment == "open" else files
    act = getattr(owner, moment)

    def after_another(*arguments: object) -> object:
        if not cleared:
            cleared.append(place)
            place.rmdir()
        return act(*arguments)

    monkeypatch.setattr(owner, moment, after_another)
    with files.new_folder(place, lambda: True):
        (place / "part").write_text("whole")
        assert not files.remove_if_free(place)
    assert cleared
    assert names(place) == ["part"]


def test_a_folder_that_was_not_kept_is_gone(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "kept", lambda: True):
        pass
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with (
        pytest.raises(NotWrittenError, match="lost: can't be written"),
        files.new_folder(tmp_path / "lost", lambda: False),
    ):
        raise full
    assert names(tmp_path) == ["kept"]
    with pytest.raises(KeyboardInterrupt), files.new_folder(tmp_path / "named", lambda: True):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["kept", "named"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_interrupted_writer_leaves_nothing(kind: str, tmp_path: Path) -> None:
    with writing(tmp_path / "page", kind) as process:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        assert names(tmp_path) == []


def test_files_of_other_names_are_nobody_s_drafts(tmp_path: Path) -> None:
    for name in (".page.draft", ".page.12345678.draft.txt", ".other.12345678.draft", "page.12345678.draft"):
        (tmp_path / name).write_text("theirs")
    before = names(tmp_path)
    assert files.clear(tmp_path / "page") == []
    assert names(tmp_path) == before


def test_a_place_is_checked_without_a_trace(tmp_path: Path) -> None:
    files.check(tmp_path / "new" / "folder" / "page")
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWrittenError, match="file is no folder"):
        files.check(tmp_path / "file" / "page")
    with pytest.raises(NotWrittenError, match="it is a folder"):
        files.check(tmp_path)
    with pytest.raises(NotWrittenError, match="name too long"):
        files.check(tmp_path / ("n" * 250))


def test_a_folder_that_takes_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", read_only)
    with pytest.raises(NotWrittenError, match=r"page: can't be written \(Read-only file system\)"):
        files.check(tmp_path / "page")
