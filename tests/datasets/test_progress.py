"""Progress counts what is on disk, and says nothing where nobody watches."""

from __future__ import annotations

import pytest

from upweight.datasets import progress


def test_bytes_under_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"45")
    assert progress.bytes_under(tmp_path) == 5
    assert progress.bytes_under(tmp_path / "nothing") == 0


def test_silent_when_standard_error_is_no_terminal(tmp_path, capfd):
    with progress.downloading("label", tmp_path, 10, show=True), progress.working("label", show=True):
        pass
    assert capfd.readouterr() == ("", "")


def test_shown_on_a_terminal_and_stopped_by_an_error(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes standard error for a terminal
    with pytest.raises(ZeroDivisionError), progress.downloading("fetching it", tmp_path, 10, show=True):
        raise ZeroDivisionError
    assert "fetching it" in capfd.readouterr().err
