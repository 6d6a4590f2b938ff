"""What made a result stands beside it, and a page of results of several states of the code says so."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import scipy
import torch
from experiments.provenance import mixture, said

from experiments import lock, provenance, results
from upweight.files import NotWrittenError


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
    monkeypatch.setattr(provenance, "_BEGUN", {})
    provenance.begin()
    git(tmp_path, "commit", "-qam", "second")
    assert provenance.provenance()["commit"] == found["commit"]  # the code that runs is that of its beginning
    assert provenance.code() == f"commit {found['commit'][:10]} with changes"


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


def test_the_lock_holds_hashes_of_what_results_hang_on_and_departures_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = lock.pins()
    assert {"torch", "numpy", "scipy", "scikit-learn", "transformers", "matplotlib"} <= set(locked)
    words = lock.LOCK.read_text()
    assert words.count("--hash=sha256:") >= len(locked)
    assert "://" not in words  # it says of no place that there is
    own = tmp_path / "requirements.lock"
    own.write_text(f"numpy=={np.__version__} \\\n    --hash=sha256:1\nscipy==0.1\n    --hash=sha256:2\nnosuch==1\n")
    monkeypatch.setattr(lock, "LOCK", own)
    assert lock.departures() == [f"scipy {scipy.__version__} (locked: 0.1)"]
    assert provenance.provenance()["not_as_locked"] == lock.departures()


def made(title: str, versions: dict[str, str], parts: list[str] | None = None) -> dict[str, object]:
    found = {"commit": "1" * 40, "changed": False, "versions": versions, "parts": parts}
    return {"title": title, "provenance": found}


def test_other_versions_and_parts_by_other_code_are_named() -> None:
    same = {"python": "3.11.2", "torch": "2.13.0"}
    several = [made("One", same), made("Two", {**same, "torch": "2.12.0", "transformers": "5"}), made("Three", same)]
    assert mixture(several) == "Results of several versions of torch: torch 2.13.0: 2 of them; torch 2.12.0: Two."
    assert mixture([made("One", same, ["commit 2"]), made("Two", same)]) == (
        "Parts were made by another state of the code than the rest in One (commit 2)."
    )


def test_a_result_whose_seeds_are_of_several_states_of_the_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "HERE", tmp_path)
    now = provenance.code()
    seeds = [{"code": "commit earlier"}, {"code": now, "of": [{"code": "commit first"}]}]
    one = results.Result("one", "One", "theirs", "ours", "why", {"per_seed": seeds}, quick=False)
    results.save(one, {}, results.Stopwatch(), "some")
    found = json.loads((tmp_path / "some" / "results" / "one.json").read_text())["provenance"]
    assert found["parts"] == ["commit earlier", "commit first"]
    assert "(parts by commit earlier, commit first)" in said(found)


def test_figures_and_numbers_are_written_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "HERE", tmp_path)

    class Full:
        def savefig(self, stream: object, **_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    one = results.Result("one", "One", "theirs", "ours", "why", {}, quick=False)
    with pytest.raises(NotWrittenError, match="No space left"):
        results.save(one, {"figure": Full()}, results.Stopwatch(), "some")  # type: ignore[dict-item]
    assert not list((tmp_path / "some" / "results").iterdir())
