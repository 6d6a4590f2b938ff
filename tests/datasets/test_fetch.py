"""A fetch either commits a verified entry or leaves nothing, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import platformdirs
import pytest

from upweight.datasets import ChecksumMismatch, DamagedCacheWarning, DataUnavailable, cache
from upweight.datasets.clients import Finished
from upweight.datasets.fetch import ensure as ensure_entry

SLOW_FETCH = Path(__file__).with_name("slow_fetch.py")


def entries(folder: Path) -> list[Path]:
    """What lies in the cache apart from locks: finished entries, and anything left half-way."""
    if not (folder / "datasets").exists():
        return []
    finished = [p for p in (folder / "datasets").iterdir() if p.name not in ("locks", "partial")]
    return finished + list((folder / "datasets" / "partial").glob("*"))


def ensure(package, **changes) -> Path:
    options = {"run": package.run, "show": False} | changes
    return ensure_entry(package.info, options.pop("convert", package.convert), **options)


def offline(command: Sequence[str], folder: Path) -> Finished:
    return Finished(1, "", "npm error code ENOTFOUND\nnpm error request failed, reason: getaddrinfo ENOTFOUND")


def test_fetches_once_and_then_reads_the_cache(package, cache_folder):
    first = ensure(package)
    assert (first / "hello.txt").read_bytes() == b"hello"
    assert ensure(package) == first
    assert len(package.asked) == 1
    assert entries(cache_folder) == [first]


def test_cache_is_where_the_environment_says(package, cache_folder):
    assert ensure(package).is_relative_to(cache_folder)


def test_cache_is_the_users_cache_folder_otherwise(monkeypatch):
    monkeypatch.delenv("UPWEIGHT_CACHE", raising=False)
    assert cache.root() == Path(platformdirs.user_cache_dir("upweight")) / "datasets"


def test_another_archive_is_refused_and_nothing_cached(package, cache_folder):
    pinned = dataclasses.replace(package.info.archives[0], sha256="0" * 64)
    package.info = dataclasses.replace(package.info, archives=(pinned,))
    with pytest.raises(ChecksumMismatch) as caught:
        ensure(package)
    assert "0" * 64 in str(caught.value)
    assert cache.sha256(package.archive) in str(caught.value)
    assert entries(cache_folder) == []


def test_a_failing_conversion_leaves_nothing(package, cache_folder):
    def convert(files: Sequence[Path], entry: Path) -> None:
        (entry / "half.txt").write_text("half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ensure(package, convert=convert)
    assert entries(cache_folder) == []
    assert (ensure(package) / "hello.txt").exists()


def test_a_failing_client_leaves_nothing_and_the_next_fetch_works(package, cache_folder):
    with pytest.raises(DataUnavailable, match="could not reach its registry"):
        ensure(package, run=offline)
    assert entries(cache_folder) == []
    assert (ensure(package) / "hello.txt").exists()


def flip(entry: Path) -> None:
    (entry / "hello.txt").write_bytes(b"jello")


def truncate(entry: Path) -> None:
    (entry / "hello.txt").write_bytes(b"hel")


def lose_file(entry: Path) -> None:
    (entry / "hello.txt").unlink()


def garble_manifest(entry: Path) -> None:
    (entry / "entry.json").write_text('{"files": [')


def empty(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.mkdir()


@pytest.mark.parametrize("damage", [flip, truncate, lose_file, garble_manifest, empty])
def test_a_damaged_entry_is_fetched_again_with_a_warning(package, cache_folder, damage):
    damage(ensure(package))
    with pytest.warns(DamagedCacheWarning, match="tiny"):
        entry = ensure(package)
    assert (entry / "hello.txt").read_bytes() == b"hello"
    assert entries(cache_folder) == [entry]


def test_a_damaged_entry_is_never_returned_when_it_cannot_be_fetched_again(package):
    flip(ensure(package))
    with pytest.raises(DataUnavailable) as caught:
        ensure(package, run=offline)
    assert "damaged" in caught.value.__notes__[0]


def test_a_cache_that_cannot_be_written_names_the_variable_that_moves_it(package, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UPWEIGHT_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataUnavailable, match="UPWEIGHT_CACHE"):
        ensure(package)


def test_a_finished_entry_needs_no_lock(package, cache_folder):
    entry = ensure(package)
    shutil.rmtree(cache_folder / "datasets" / "locks")
    assert ensure(package) == entry
    assert not (cache_folder / "datasets" / "locks").exists()


@pytest.fixture
def start(package, tmp_path) -> Callable[[float], subprocess.Popen]:
    def start(seconds: float) -> subprocess.Popen:
        command = [sys.executable, SLOW_FETCH, package.archive, tmp_path / "log", str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_two_processes_at_once_download_once_and_both_get_it(start, tmp_path):
    processes = [start(1.0), start(1.0)]
    outcomes = [process.communicate(timeout=120) for process in processes]
    assert [output for output, _ in outcomes] == ["hello\n", "hello\n"], outcomes
    assert (tmp_path / "log").read_text() == "download\n"


def test_a_killed_fetch_leaves_no_entry_and_the_next_one_clears_up(start, package, tmp_path, cache_folder):
    process = start(600)
    deadline = time.monotonic() + 120
    while not (tmp_path / "log").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not cache.is_complete(cache.entry_path(package.info))
    entry = ensure(package)
    assert (entry / "hello.txt").read_bytes() == b"hello"
    assert entries(cache_folder) == [entry]
