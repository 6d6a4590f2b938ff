"""What made a result stands beside it, and a page of results of several states of the code says so."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from experiments.provenance import mixture, said

from experiments import provenance, results


def git(folder: Path, *arguments: str) -> None:
    own = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here")
def test_the_commit_and_changes_since_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "HERE", tmp_path / "experiments")
    assert provenance.provenance()["commit"] is None
    (tmp_path / "src").mkdir()
    code, kept = tmp_path / "src" / "code.py", tmp_path / "RESULTS.md"
    code.write_text("one = 1\n")
    kept.write_text("before\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    found = provenance.provenance()
    assert len(found["commit"]) == 40
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["numpy"] == np.__version__
    kept.write_text("after\n")
    assert not provenance.provenance()["changed"]
    code.write_text("one = 2\n")
    assert provenance.provenance()["changed"]
    assert f"commit {found['commit'][:10]} with changes; python 3." in said(provenance.provenance())


def test_results_of_several_states_of_the_code_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "HERE", tmp_path)
    for title, commit in {"One": "1" * 40, "Two": "2" * 40, "Three": "1" * 40, "Four": None}.items():
        made = results.Result(title.lower(), title, "theirs", "ours", "why", {}, quick=False)
        made.provenance["commit"], made.provenance["changed"] = commit, False
        results.save(made, {}, results.Stopwatch(), "some")
    old = tmp_path / "some" / "results" / "one.json"
    page = results.gather(["some"], quick=False).read_text()
    assert "commit 1111111111: 2 of them; commit 2222222222: Two; commit not recorded: Four." in page
    assert json.loads(old.read_text())["provenance"]["cores"]
    without = asdict(results.Result("one", "One", "theirs", "ours", "why", {"seconds_by_stage": {}}, quick=False))
    del without["provenance"]
    old.write_text(json.dumps(without))
    assert (
        "commit not recorded: 2 of them; commit 1111111111: Three; commit 2222222222: Two."
        in results.gather(["some"], quick=False).read_text()
    )
    assert mixture([without]) == ""
