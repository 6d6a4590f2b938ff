"""However a command ends, it says so: one JSON object with --json, else words; whatever a study does to the streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from processes import wait_for
from upweight.datasets import cache

from .conftest import Run

STUDY = """
import asyncio, contextlib, io, os, sys, time
from pathlib import Path
import torch
import upweight as uw

LATE = False

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 20
    def __getitem__(self, i):
        if LATE:
            {work}
        return torch.tensor([float(i % 3), float(i % 5)]), torch.tensor(i % 2)

def study():
    {read}
    torch.manual_seed(0)
    found = uw.Objective(torch.nn.Linear(2, 2), uw.losses.CrossEntropy(), Rows(), l2=1.0)
    globals()["LATE"] = True
    return found, (torch.ones(3, 2), torch.arange(3) % 2)
"""
NOISE = {
    "print": "print('noise')",
    "print without end": "print('noise', end='')",
    "bytes": "sys.stdout.buffer.write(b'noise')",
    "the first stream": "print('noise', file=sys.__stdout__)",
    "another program": "os.system('echo noise')",
    "the system": "os.write(1, b'noise')",
    "redirected": "sys.stdout = open('log.txt', 'w')",
    "replaced": "sys.stdout = io.StringIO()",
    "nothing": "sys.stdout = None",
    "closed": "sys.stdout.close()",
    "closed below": "os.close(1)",
    "errors closed": "sys.stderr.close()",
}
BELOW = ("another program", "the system", "the first stream", "closed", "errors closed", "closed below")
"""What a runner within this process would feel."""


def write(folder: Path, read: str = "pass", work: str = "pass") -> Path:
    study = folder / "mine.py"
    study.write_text(STUDY.format(read=read, work=work))
    return study


def begin(*arguments: object, folder: Path, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from upweight.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(
        command,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder, **more},
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")
@pytest.mark.parametrize("noise", [each for each in NOISE if each not in BELOW])
def test_what_a_study_prints_is_not_in_the_object(noise: str, run: Run, tmp_path: Path) -> None:
    for places in ({"read": NOISE[noise]}, {"work": NOISE[noise]}):
        result = run("label-errors", write(tmp_path, **places), "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["files"]


def test_nor_what_goes_by_other_ways(tmp_path: Path) -> None:
    study = write(tmp_path, "; ".join(NOISE[each] for each in BELOW))
    running = [begin("label-errors", study, *flags, folder=tmp_path) for flags in (["--json"], [])]
    (output, errors), (words, complaints) = (process.communicate() for process in running)
    assert [process.returncode for process in running] == [0, 0], (errors, complaints)
    assert json.loads(output)["files"]
    assert "report: " in words


ENDINGS = {
    "sys.exit()": "line 18, in study: SystemExit: ",
    "sys.exit(0)": "line 18, in study: SystemExit: 0",
    "raise asyncio.CancelledError('stopped')": "line 18, in study: CancelledError: stopped",
    "raise GeneratorExit": "line 18, in study: GeneratorExit: ",
    "raise BaseException('x')": "line 18, in study: BaseException: x",
    "uw.losses.CrossEntropy(temperature=-1)": "line 18, in study: CrossEntropy, temperature: give",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_whatever_a_study_raises_is_told(ending: str, run: Run, tmp_path: Path) -> None:
    result = run("label-errors", write(tmp_path, ending), "--json")
    assert result.exit_code == 1
    assert ENDINGS[ending] in json.loads(result.stdout)["error"]["message"]
    result = run("label-errors", tmp_path / "mine.py")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert "error" in result.stderr


@pytest.mark.parametrize(
    ("ending", "code", "kind"),
    [("raise KeyboardInterrupt", 130, "Interrupted"), ("sys.exit(0)", 1, "SystemExit")],
)
def test_so_it_is_during_the_work(ending: str, code: int, kind: str, run: Run, tmp_path: Path) -> None:
    study = write(tmp_path, work=ending)
    result = run("label-errors", study, "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout)["error"]["kind"] == kind
    result = run("label-errors", study)
    assert result.exit_code == code
    assert "before its end" in result.stderr
    assert result.stdout == ""


def test_what_no_except_takes_is_an_object_too(run: Run, tmp_path: Path) -> None:
    result = run("label-errors", write(tmp_path, work="raise asyncio.CancelledError('stopped')"), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"] == {"kind": "CancelledError", "message": "stopped"}


@pytest.mark.parametrize("flags", [["--json"], []])
def test_signals_are_told(flags: list[str], tmp_path: Path) -> None:
    write(tmp_path, "Path(f'begun-{os.getpid()}').touch(); time.sleep(60)")
    signals = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}
    running = {each: begin("label-errors", "mine.py", *flags, folder=tmp_path) for each in signals}
    for each, process in running.items():
        wait_for(lambda process=process: (tmp_path / f"begun-{process.pid}").exists())  # type: ignore[misc]
        process.send_signal(each)
    for each, process in running.items():
        output, errors = process.communicate()
        assert process.returncode == 128 + each, errors
        if flags:
            assert json.loads(output)["error"]["kind"] == signals[each]
        else:
            assert "before its end" in errors
            assert "Traceback" not in errors


def test_a_full_disk_behind_the_output_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    commands = [["explain", "none.py", "--json"], ["label-errors", "mine.py"], ["--help"], ["data", "list"]]
    with open("/dev/full", "w") as full:
        running = [begin(*command, folder=tmp_path, stdout=full) for command in commands]
    for command, process in zip(commands, running, strict=True):
        errors = process.communicate()[1]
        assert process.returncode == 1, (command, errors)
        assert "standard output can't be written (No space left on device)" in errors, command
        assert "Traceback" not in errors
        assert "Exception ignored" not in errors


@pytest.mark.parametrize("command", [[], ["label-errors"], ["data"], ["data", "fetch"], ["correct-labels"]])
def test_help_is_an_object(command: list[str], run: Run) -> None:
    for flag in ("--help", "-h"):
        result = run(*command, flag, "--json")
        assert result.exit_code == 0
        assert "Usage" in json.loads(result.stdout)["help"]
        assert result.stderr == ""
    assert json.loads(run("--version", "--json").stdout) == {"version": metadata.version("upweight")}


def test_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    for flags in (["--json"], []):
        process = begin("explain", os.fsdecode(b"caf\xe9.py"), *flags, folder=tmp_path)
        output, errors = process.communicate()
        assert process.returncode == 1, errors
        assert "Traceback" not in errors
        assert "no such file" in (json.loads(output)["error"]["message"] if flags else errors)


WRONG: list[tuple[list[str], int, str]] = [
    (["demo", "--seed", "4294967296"], 2, "'--seed': Input should be less than or equal to 4294967295"),
    (["explain", "x.csv", "-t", "y", "--seed", "-1"], 2, "'--seed': Input should be greater than or equal to 0"),
    (["unlearn", "x.py", "--class", "1", "--per", "zz"], 1, "--per: one of 'layer', 'global'; got 'zz'"),
    (["unlearn", "x.py", "--class", "1", "--ratio", "1", "--per", "zz"], 1, "--per: one of"),
    (["unlearn", "x.py", "--class", "1", "--method", "IF", "--per", "zz"], 1, "--per: one of"),
    (["unlearn", "x.py", "--class", "1", "--choose", "zz"], 1, "--choose: one of 'highest-output'"),
    (["unlearn", "x.py", "--class", "1", "--method", "zz"], 1, "--method: one of 'GIF'"),
    (["unlearn", "x.py", "--class", "1", "--ratio", "nan"], 1, "--ratio: give a finite number > 0 and ≤ 1; got nan"),
    (["unlearn", "x.py", "--class", "1", "--ratio", "2"], 1, "--ratio: give a finite number"),
    (["unlearn", "x.py", "--class", "1", "--damping", "nan"], 2, "'--damping'"),
    (["unlearn", "people.csv", "--class", "1"], 1, "people.csv: is no study file; give a Python file (.py)"),
    (["correct-labels", "people.csv", "-l", "none.csv"], 1, "people.csv: is no study file"),
    (["correct-labels", "x.py", "-l", "none.csv"], 1, "--labels: none.csv: there is no such file"),
    (["correct-labels", "x.py", "-l", "."], 1, "--labels: .: is a folder; give the file of a table"),
    (["correct-labels", "x.py", "-l", "empty.csv"], 1, "--labels: empty.csv: is empty"),
    (["correct-labels", "x.py", "-l", "bytes.csv"], 1, "--labels: bytes.csv: is not UTF-8"),
    (["correct-labels", "x.py", "-l", "header.csv"], 1, "--labels: header.csv: has a header but no rows"),
    (
        ["correct-labels", "x.py", "-l", "people.csv"],
        1,
        "--labels: people.csv needs columns position and label; it has a, b",
    ),
    (["correct-labels", "x.py", "-l", "gaps.csv"], 1, "--labels: gaps.csv has no label in row 1"),
    (["correct-labels", "x.py", "-l", "halves.csv"], 1, "whole numbers in its column position, such as 17; it has 0.5"),
    (["correct-labels", "x.py", "-l", "words.csv"], 1, "whole numbers in its column position, such as 17; it has last"),
    (["correct-labels", "x.py", "-l", "twice.csv"], 1, "twice.csv gives position 1 in rows 0 and 2; leave one of them"),
    (["correct-labels", "x.py", "-l", "good.csv", "--per", "zz"], 1, "--per: one of"),
    (["attack", "people.csv"], 1, "people.csv: is no study file; give a Python file (.py) that defines study()"),
    (["attack", "x.py", "--step", "nan"], 1, "--step: give a finite number > 0; got nan"),
    (["attack", "x.py", "--step", "0"], 1, "--step: give a finite number > 0; got 0"),
    (["attack", "x.py", "--radius", "nan"], 1, "radius: got nan"),
    (["compare", "people.csv", "x.py"], 1, "people.csv: is no study file"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_wrong_options_are_told_before_the_study_is_read(
    arguments: list[str], code: int, message: str, run: Run, tmp_path: Path
) -> None:
    files = {
        "x.py": b"raise AssertionError('read')\n",
        "people.csv": b"a,b\n1,2\n",
        "empty.csv": b"",
        "bytes.csv": b"position,label\n1,\x00\xff\n",
        "header.csv": b"position,label\n",
        "gaps.csv": b"position,label\n1,1\n2,\n",
        "halves.csv": b"position,label\n0.5,1\n",
        "words.csv": b"position,label\n1,1\nlast,1\n",
        "twice.csv": b"position,label\n1,1\n2,1\n1,0\n",
        "good.csv": b"position,label\n1,1\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    result = run(*arguments, "--json")
    assert result.exit_code == code
    told = json.loads(result.stdout)["error"]["message"]
    assert message in told
    assert not any(word in told for word in ("InputError", "Errno", "Error:"))
    assert run(*arguments).exit_code == code
    assert not (tmp_path / "upweight-report").exists()


def test_a_folder_that_is_no_more_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, gone = write(tmp_path), tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = run("label-errors", study, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["message"] == "the current folder is no more; change to one that is there"


@pytest.mark.parametrize("link", ["itself", "new", "hard", "soft"])
def test_a_data_set_is_not_written_over_its_own_cache(
    link: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPWEIGHT_CACHE", str(tmp_path / "cache"))
    kept = cache.root() / "adult-1" / "table.csv"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    place = tmp_path / "people.csv"
    if link == "hard":
        place.hardlink_to(kept)
    elif link == "soft":
        place.symlink_to(kept)
    else:
        place = kept if link == "itself" else kept.with_name("other.csv")
    result = run("data", "fetch", "adult", "--csv", place, "--force", "--json")
    assert result.exit_code == 1
    message = json.loads(result.stdout)["error"]["message"]
    assert message.startswith(f"--csv: {place} ")
    assert "which this command reads" in message or "give a place outside it" in message
    assert kept.read_text() == "kept"
    assert not kept.with_name("other.csv").exists()
