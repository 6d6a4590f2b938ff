"""Experiments over seeds: a run that is cut off goes on where it was, and a complete one leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import resume
from processes import lives, wait_for


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "user_cache_path", lambda name: tmp_path / name)
    asked: list[int] = []

    def one(seed: int) -> resume.Numbers:
        asked.append(seed)
        if seed == 2 and asked.count(2) == 1:
            raise KeyboardInterrupt
        return {"square": seed**2}

    with pytest.raises(KeyboardInterrupt):
        resume.over_seeds("squares", one, range(4), settings={"power": 2}, jobs=1)
    kept = sorted(path.name for path in tmp_path.rglob("*.json"))
    assert kept == ["seed-0.json", "seed-1.json"]
    assert not list(tmp_path.rglob("*.draft"))
    found = resume.over_seeds("squares", one, range(4), settings={"power": 2}, jobs=1)
    assert asked == [0, 1, 2, 2, 3]
    assert [numbers["square"] for numbers in found] == [0, 1, 4, 9]
    assert all(numbers["cpu_seconds"] >= 0 for numbers in found)
    assert not list(tmp_path.rglob("*.json"))


def test_other_settings_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "user_cache_path", lambda name: tmp_path / name)

    def cut_off(seed: int) -> resume.Numbers:
        if seed:
            raise KeyboardInterrupt
        return {"power": 2}

    with pytest.raises(KeyboardInterrupt):
        resume.over_seeds("powers", cut_off, range(2), settings={"power": 2}, jobs=1)
    found = resume.over_seeds("powers", lambda seed: {"power": 3}, range(2), settings={"power": 3}, jobs=1)
    assert [numbers["power"] for numbers in found] == [3, 3]
    # What was kept of the other settings is still theirs.
    found = resume.over_seeds("powers", lambda seed: {"power": 0}, range(2), settings={"power": 2}, jobs=1)
    assert [numbers["power"] for numbers in found] == [2, 0]


def test_a_cut_file_is_named_and_its_seed_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resume, "user_cache_path", lambda name: tmp_path / name)

    def cut_off(seed: int) -> resume.Numbers:
        if seed == 2:
            raise KeyboardInterrupt
        return {"power": 1}

    with pytest.raises(KeyboardInterrupt):
        resume.over_seeds("powers", cut_off, range(3), settings={}, jobs=1)
    first, second = sorted(tmp_path.rglob("*.json"))
    first.write_text(first.read_text()[:-5])
    second.write_text("3")
    found = resume.over_seeds("powers", lambda seed: {"power": 3}, range(3), settings={}, jobs=1)
    assert [numbers["power"] for numbers in found] == [3, 3, 3]
    told = capsys.readouterr().out
    assert f"{first} is damaged" in told
    assert f"{second} is damaged" in told


RUN = """
import os, sys, time
from pathlib import Path
from experiments import resume

resume.user_cache_path = lambda name: Path(sys.argv[1]) / name

def one(seed):
    log = Path(sys.argv[1]) / f"begun-{seed}-{os.getpid()}"
    log.touch()
    time.sleep(float(sys.argv[2]) if seed else 0)
    return {"square": seed**2}

if __name__ == "__main__":
    print([numbers["square"] for numbers in resume.over_seeds("squares", one, range(3), settings={}, jobs=2)])
"""


def started(folder: Path, seconds: float) -> subprocess.Popen[str]:
    script = folder / "run.py"
    script.write_text(RUN)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), str(seconds)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_equal_run_is_refused_and_told_who_is_at_it(tmp_path: Path) -> None:
    first = started(tmp_path, 60)
    wait_for(lambda: bool(list(tmp_path.rglob("*.process"))) and bool(list(tmp_path.rglob("seed-0.json"))))
    second = started(tmp_path, 0)
    told = second.communicate(timeout=120)[1]
    assert second.returncode != 0
    assert f"another process {first.pid} is at squares-" in told
    assert [path.name for path in tmp_path.rglob("*.json")] == ["seed-0.json"]
    first.terminate()
    first.communicate(timeout=60)
    assert started(tmp_path, 0).communicate(timeout=120)[0].splitlines()[-1] == "[0, 1, 4]"


def test_seeds_of_another_state_of_the_code_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resume, "user_cache_path", lambda name: tmp_path / name)
    monkeypatch.setattr(resume, "code", lambda: "commit one")

    def cut_off(seed: int) -> resume.Numbers:
        if seed:
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        resume.over_seeds("codes", cut_off, range(2), settings={}, jobs=1)
    monkeypatch.setattr(resume, "code", lambda: "commit two")
    found = resume.over_seeds("codes", lambda seed: {}, range(2), settings={}, jobs=1)
    assert [numbers["code"] for numbers in found] == ["commit one", "commit two"]
    assert "by commit one, where this run is by commit two: seeds 0;" in capsys.readouterr().out


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_was_done_stays_and_what_runs_ends(tmp_path: Path, way: signal.Signals) -> None:
    run = started(tmp_path, 60)
    wait_for(lambda: len(list(tmp_path.glob("begun-*"))) >= 3 and bool(list(tmp_path.rglob("seed-0.json"))))
    run.send_signal(way)
    run.communicate(timeout=60)
    assert run.returncode != 0
    workers = {int(path.name.rpartition("-")[2]) for path in tmp_path.glob("begun-*")}
    wait_for(lambda: not any(map(lives, workers)))
    assert [path.name for path in tmp_path.rglob("*.json")] == ["seed-0.json"]
    assert started(tmp_path, 0).communicate(timeout=120)[0].splitlines()[-1] == "[0, 1, 4]"
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".json", ".draft")]
