"""What a worker refuses of a study that isn't there, or is another, where it works."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from upweight import InputError, study
from upweight.executors import Processes
from upweight.jobs import of_study

STUDY = """
import torch
import upweight as uw

class Net(torch.nn.Linear):
    pass

def study():
    torch.manual_seed(0)
    x, y = torch.randn(9, 3), torch.arange(9) % 2
    return uw.Objective(Net(3, 2), uw.losses.CrossEntropy(), (x, y), l2=0.1), (x[:2], y[:2])
"""


def worker(model: Any) -> Any:
    return lambda task: type(model).__name__


def sent(folder: Path) -> Any:
    path = folder / "mine.py"
    path.write_text(STUDY)
    given = study.load(path)
    each = of_study.OfStudy(Processes(1), path, given, of_study.digest(path))
    return each._sent(partial(worker, given.objective.model))


def test_a_worker_makes_what_the_file_defines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = pickle.loads(pickle.dumps(sent(tmp_path)))
    assert made()(0) == "Net"


def test_what_is_not_the_same_where_it_works_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = sent(tmp_path)
    wrong = {
        "has no such folder, in which the job began": replace(made, folder=str(tmp_path / "none")),
        "has no such file; put study and store where": replace(made, path=str(tmp_path / "none.py")),
        "finds another version of it": replace(made, digest="0"),
        "instead of {'upweight': '9'}; install the same": replace(made, versions={"upweight": "9"}),
    }
    for words, one in wrong.items():
        with pytest.raises(InputError, match="a worker on ") as raised:
            one()
        assert words in str(raised.value)


def test_what_can_not_be_sent_even_without_the_study_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(STUDY)
    each = of_study.OfStudy(Processes(1), path, study.load(path), "0")
    with pytest.raises(InputError, match="can't be sent to workers"):
        each._sent(lambda: None)
