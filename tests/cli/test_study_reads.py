"""No result takes the place of a file that a study opened, in whatever way, before its work or in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from upweight.cli import reads

from .conftest import Run
from .test_outputs import LINKS, READS, itself

STUDY = """
import io, os, pickle, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
import upweight as uw
FILE = {file!r}

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 20
    def __getitem__(self, i):
        {lazily}
        return torch.tensor([float(i % 3), float(i % 5)]), torch.tensor(i % 2)

def study():
    {read}
    torch.manual_seed(0)
    queries = torch.randn(3, 2), torch.arange(3) % 2
    rows = [Rows()[i] for i in range(20)]
    objective = uw.Objective(torch.nn.Linear(2, 2), uw.losses.CrossEntropy(), {data}, l2=1.0)
    return uw.retraining.fit(objective), queries
"""
ALL = "tuple(map(torch.stack, zip(*rows)))"


def write(folder: Path, file: Path, read: str = "pass", lazily: str = "pass", data: str = ALL) -> Path:
    """A study that reads a file."""
    study = folder / "mine.py"
    study.write_text(STUDY.format(file=str(file), read=read, lazily=lazily, data=data))
    return study


def refused(run: Run, *arguments: object) -> str:
    result = run(*arguments, "--force", "--json")
    assert result.exit_code == 1, result.output
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == "InputError", error
    message: str = error["message"]
    assert "which this command reads; give another folder or another name" in message
    return message


STUDIES = {name: row[2] for name, row in READS.items() if " " not in name}


@pytest.mark.parametrize(("command", "ending"), [(name, each) for name, found in STUDIES.items() for each in found])
def test_no_command_writes_over_what_its_study_opens(command: str, ending: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / f"page.{ending}"
    file.write_text("position,label\n1,1\n")
    others = {"compare": [write(tmp_path, file).rename(tmp_path / "other.py")]}.get(command, [])
    study = write(tmp_path, file, "open(FILE).read()")
    (tmp_path / "labels.csv").write_text("position,label\n1,1\n")
    named = {
        "unlearn": ["--class", "1"],
        "correct-labels": ["--labels", "labels.csv"],
        "domain-mismatch": ["--group", "x < 3"],
        "select": ["-k", "2"],
    }
    message = refused(run, command, study, *others, *named.get(command, []), "-o", tmp_path / "page.html")
    assert message.startswith(f"--output: {file} would be written over {file}, ")
    assert file.read_text() == "position,label\n1,1\n"


def table(path: Path) -> None:
    pd.DataFrame({"a": [1.0, 2.0]}).to_csv(path, index=False)


WAYS = {
    "pandas": (table, "pd.read_csv(FILE)"),
    "pandas, by Python": (table, "pd.read_csv(FILE, engine='python')"),
    "numpy": (lambda path: np.save(path.open("wb"), np.zeros(3)), "np.load(FILE)"),
    "numpy, mapped": (lambda path: np.save(path.open("wb"), np.zeros(3)), "np.load(FILE, mmap_mode='r')"),
    "numpy's text": (table, "np.loadtxt(FILE, skiprows=1)"),
    "torch": (lambda path: torch.save(torch.zeros(3), path), "torch.load(FILE)"),
    "torch, mapped": (lambda path: torch.save(torch.zeros(3), path), "torch.load(FILE, mmap=True)"),
    "open": (table, "open(FILE, 'rb').close()"),
    "read and write": (table, "open(FILE, 'r+').close()"),
    "os.open": (table, "os.close(os.open(FILE, os.O_RDONLY))"),
    "bytes": (table, "open(os.fsencode(FILE)).close()"),
    "Path": (table, "Path(FILE).read_bytes()"),
    "from its folder": (table, "os.chdir(Path(FILE).parent); open(Path(FILE).name).close(); os.chdir('/')"),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_opens_it(way: str, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "page.csv"
    make, read = WAYS[way]
    make(file)
    before = file.read_bytes()
    refused(run, "label-errors", write(tmp_path, file, read), "-o", "page.html")
    assert file.read_bytes() == before


@pytest.mark.parametrize("link", [link for link in LINKS if link is not itself])
def test_by_whatever_link(link, run: Run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "read.csv"
    file.write_text("theirs")
    link(tmp_path / "page.csv", file)
    message = refused(run, "label-errors", write(tmp_path, file, "open(FILE).close()"), "-o", "page.html")
    assert f"page.csv would be written over {file}" in message
    assert file.read_text() == "theirs"


def test_a_module_that_it_imports(run: Run, tmp_path: Path) -> None:
    (tmp_path / "beside.csv").write_text("NUMBER = 1\n")
    read = "from importlib.machinery import SourceFileLoader as L; L('beside', FILE).load_module()"
    refused(run, "explain", write(tmp_path, tmp_path / "beside.csv", read), "-o", "beside.html")


@pytest.mark.parametrize("command", ["label-errors", "explain"])
def test_a_file_that_is_read_during_the_work(command: str, run: Run, tmp_path: Path) -> None:
    """The data set opens it for the first time when the objective is asked for its scores."""
    file = tmp_path / "page.csv"
    file.write_text("theirs")
    lazily = "LATE and open(FILE).close()"
    study = write(tmp_path, file, "globals().update(LATE=False)", lazily, "Rows()")
    text = study.read_text().replace(
        "    return uw.retraining.fit(objective), queries",
        "    found = uw.retraining.fit(objective), queries\n    globals().update(LATE=True)\n    return found",
    )
    study.write_text(text)
    refused(run, command, study, "-o", "page.html")
    assert file.read_text() == "theirs"
    assert not (tmp_path / "page.html").exists()


def test_what_it_does_not_read_is_replaced(run: Run, tmp_path: Path) -> None:
    """A file that it writes is none of its inputs, nor is a free name."""
    for name in ("page.csv", "data.csv"):
        (tmp_path / name).write_text("old")
    study = write(tmp_path, tmp_path / "data.csv", "open(FILE).close(); open('page.csv', 'w').close()")
    assert run("label-errors", study, "-o", "page.html", "--force").exit_code == 0
    assert len(pd.read_csv(tmp_path / "page.csv")) == 20
    assert (tmp_path / "data.csv").read_text() == "old"


def test_what_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    assert reads.now().find(file) is None
    with reads.recorded() as outer, reads.recorded() as inner:
        file.read_text()
        (tmp_path / "b").write_text("y")
        with pytest.raises(FileNotFoundError):
            (tmp_path / "c").read_text()
        os.close(os.dup(0))
        assert reads.now() is inner
    for found in (outer, inner):
        assert found.find(file) == str(file)
        assert found.find(tmp_path / "b") is None
        assert found.find(tmp_path / "c") is None
    with reads.recorded() as later:
        pass
    file.read_text()
    assert later.find(file) is None
    file.rename(tmp_path / "d")
    assert outer.find(tmp_path / "d") == str(file)


def test_to_note_takes_no_time(tmp_path: Path) -> None:
    import time

    file = tmp_path / "a"
    file.write_text("x")
    with reads.recorded():
        started = time.perf_counter()
        for _ in range(5000):
            file.open().close()
    assert time.perf_counter() - started < 5
