"""Running all experiments: what stops one is said in a sentence, and which rows go without it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from experiments.alone import alone
from experiments.listed import EXPERIMENTS, LEFT_OUT, Experiment, chosen

from experiments import reproduce, results, running, states
from upweight import datasets
from upweight.files import NotWrittenError

ROOT = Path(__file__).parents[2]


def test_every_result_is_a_row_of_one_experiment() -> None:
    rows = [row for each in EXPERIMENTS for row in each.rows]
    assert len(set(rows)) == len(rows)
    there = {json.loads(path.read_text())["id"] for path in (ROOT / "experiments").glob("*/results/*.json")}
    assert there <= set(rows)


def test_every_script_is_listed_and_runs_alone_and_its_data_are_known() -> None:
    scripts = {
        f"{path.parent.name}.{path.stem}"
        for path in (ROOT / "experiments").glob("*/*.py")
        if "run(main)" in path.read_text("utf-8")
    }
    assert scripts == {each.name for each in EXPERIMENTS}
    assert {name for each in EXPERIMENTS for name in each.data} <= set(datasets.names())


def test_a_folder_that_there_is_not_is_refused() -> None:
    assert {each.folder for each in chosen(["gif"])} == {"gif"}
    assert [each.name for each in chosen(["gif.solvers"])] == ["gif.solvers"]
    with pytest.raises(SystemExit, match="no experiments in gig; there are koh_liang, gif"):
        chosen(["gig"])


def failing(error: BaseException) -> int:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        running.run(main)
    return int(ended.value.code)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "folder", lambda: tmp_path / "kept")
    monkeypatch.setattr(running.provenance, "begin", lambda: None)  # it would hold for all tests of this process
    monkeypatch.delenv("QUICK", raising=False)


def test_what_stops_an_experiment_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(datasets.DataUnavailable("mnist", "No registry answers.", "Try later.")) == running.NO_DATA
    assert failing(OSError(errno.ENOSPC, "No space left on device", "place")) == running.NO_ROOM
    behind = RuntimeError("written badly")
    behind.__cause__ = NotWrittenError("kept.pt: can't be written (No space left on device)")
    assert failing(behind) == running.NO_ROOM
    told = capsys.readouterr().err
    assert "No registry answers" in told
    assert "place: no space left on device. What was finished is kept" in told
    assert "kept.pt: can't be written (No space left on device)." in told
    assert "Traceback" not in told


def test_a_fault_of_the_code_stays_a_traceback() -> None:
    def main() -> None:
        raise OSError(errno.ENOENT, "No such file or directory")

    with pytest.raises(FileNotFoundError):
        running.run(main)


SECOND = """
import sys
from pathlib import Path
from experiments import running

running.folder = lambda: Path(sys.argv[1])

def main():
    print("begun")

running.run(main)
"""


def test_a_second_process_at_one_experiment_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "second.py"
    script.write_text(SECOND)

    def second(**more: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(ROOT), *sys.path])
        env = {**os.environ, "PYTHONPATH": path, **more}
        command = [sys.executable, str(script), str(tmp_path)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    with alone(tmp_path / "__main__"):
        refused, quick = second(), second(QUICK="1")
    assert refused.returncode == running.BUSY
    assert f"another process {os.getpid()} is at __main__; nothing was started" in refused.stderr
    assert not refused.stdout
    assert quick.stdout == "begun\n"  # it writes elsewhere
    assert second().stdout == "begun\n"


def test_rows_that_go_without_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "HERE", tmp_path)
    results.save(
        results.Result("old", "Old", "theirs", "ours", "why", {}, quick=False), {}, results.Stopwatch(), "some"
    )
    listed = [Experiment("some.photos", ("old", "new"), ("cifar10",)), Experiment("some.busy", ("third",))]
    monkeypatch.setattr(reproduce, "EXPERIMENTS", listed)
    monkeypatch.setattr(reproduce, "chosen", lambda folders: listed)
    monkeypatch.setattr(sys, "argv", ["reproduce"])

    def unavailable(name: str) -> None:
        raise datasets.DataUnavailable(name, "It is gone.", "Wait.")

    monkeypatch.setattr(datasets, "fetch", unavailable)
    asked: list[str] = []

    def busy(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        asked.append(command[-1])
        return subprocess.CompletedProcess(command, running.BUSY)

    monkeypatch.setattr(reproduce.subprocess, "run", busy)
    assert reproduce.main() == 2
    assert asked == ["experiments.some.busy"]
    told = capsys.readouterr()
    assert LEFT_OUT["default"] in told.out
    assert "cifar10 can't be had" in told.err
    assert "It is gone." in told.err
    assert "not run: some.photos (old, new): its data can't be had: cifar10" in told.err
    assert "not run: some.busy (third): another process is at it" in told.err
    page = (tmp_path / "RESULTS.md").read_text()
    assert "old, of an earlier run (its data can't be had: cifar10)" in page
    assert "new, without a result (its data can't be had: cifar10)" in page
    assert "third, without a result (another process is at it)" in page


def test_a_state_that_can_t_be_written_is_named_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "folder" / "state.pt"
    states.write(place, {"theta": torch.ones(2)})

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    def main() -> None:
        states.write(place, {"theta": torch.zeros(2)})

    with pytest.raises(SystemExit) as ended:
        running.run(main)
    assert ended.value.code == running.NO_ROOM
    assert f"{place}: can't be written (No space left on device)" in capsys.readouterr().err
    assert torch.load(place, weights_only=True)["theta"].tolist() == [1, 1]
    assert [path.name for path in place.parent.iterdir()] == ["state.pt"]
