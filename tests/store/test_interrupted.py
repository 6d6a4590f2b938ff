"""No saved attribution is lost while another takes its place: full disks, interrupts, kills, many at once."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from problems import close
from saved import SCORES, attribution, names
from upweight import files
from upweight.attribution import Attribution
from upweight.errors import InputError
from upweight.store.attributions import MARKER


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
