"""A disk that is full, and a store that is read only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import upweight as uw
from disturbed import contents, influence, job, queries
from upweight.files import NotWrittenError

SMALL = 2**16
"""Bytes of a disk."""


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, of memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("a disk can be mounted by root alone")
    if subprocess.run([mount, "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", place], check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("top_k", [None, 3])
def test_a_disk_that_is_full_keeps_what_is_committed(mounted: Path, tmp_path: Path, top_k: int | None) -> None:
    whole, store, ended = tmp_path / "whole", mounted / "store", 0
    job(whole, top_k)
    for left in range(1, 9):  # pages that are free
        (mounted / "other").write_bytes(b"0" * (SMALL - left * 4096))
        with contextlib.suppress(NotWrittenError):
            job(store, top_k)
            ended += 1
        shutil.copytree(store, tmp_path / f"after-{left}", dirs_exist_ok=True)
        job(tmp_path / f"after-{left}", top_k)
        assert contents(tmp_path / f"after-{left}") == contents(whole)
        (mounted / "other").unlink()
        shutil.rmtree(store)
    assert ended < 4


@pytest.mark.parametrize("top_k", [None, 3])
def test_a_finished_store_is_read_where_nothing_can_be_written(mounted: Path, top_k: int | None) -> None:
    subprocess.run(["mount", "-o", "remount,size=1m", mounted], check=True)
    store = mounted / "store"
    found = job(store, top_k).top(3)
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    assert (uw.Stored.open(store).top(3).positions == found.positions).all()
    assert (job(store, top_k).top(3).positions == found.positions).all()
    uw.Stored.open(store).verify()
    with pytest.raises(uw.InputError, match="top_k"):
        job(store, 2)


def test_an_unfinished_one_is_refused_by_name(mounted: Path) -> None:
    store = mounted / "store"
    (mounted / "other").write_bytes(b"0" * (SMALL - 8 * 4096))
    with pytest.raises(NotWrittenError):
        job(store)
    before = contents(store)
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    with pytest.raises(NotWrittenError, match="store"):
        job(store)
    with pytest.raises(NotWrittenError, match="another"):
        influence().attribute(queries(), store=mounted / "another")
    assert contents(store) == before
