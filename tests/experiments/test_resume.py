"""Experiments over seeds: a run that is cut off goes on where it was, and a complete one leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments import resume


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
