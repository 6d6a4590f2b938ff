"""Study files: what they can import, and what they leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from upweight import study


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The path of imports, a copy for this test."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return sys.path


def test_neighbours_can_be_imported(tmp_path: Path, path: list[str]) -> None:
    (tmp_path / "beside_a_study.py").write_text("answer = 42")
    (tmp_path / "mine.py").write_text("import beside_a_study; found = beside_a_study.answer")
    assert study.run(tmp_path / "mine.py").found == 42
    assert path[0] == str(tmp_path)


def test_in_a_package_its_root_comes_first_and_neighbours_hide_no_library(tmp_path: Path, path: list[str]) -> None:
    package = tmp_path / "a_package_of_studies"
    package.mkdir()
    for name, words in {
        "__init__": "",
        "colorsys": "raise AssertionError('hides the standard library')",
        "in_the_package": "answer = 42",
        "mine": (
            "import colorsys; from a_package_of_studies import in_the_package as one; import in_the_package as other; "
            "found = one.answer + other.answer"
        ),
    }.items():
        (package / f"{name}.py").write_text(words)
    assert study.run(package / "mine.py").found == 84
    assert path[0] == str(tmp_path)
    assert path[-1] == str(package)


def test_the_demo_as_a_study_leaves_scikit_learn_what_it_is() -> None:
    """`upweight/sklearn.py` lies beside it."""
    code = (
        "import sys; from pathlib import Path; import upweight; from upweight import study; "
        "study.run(Path(upweight.__file__).parent / 'demo.py'); "
        "[sys.modules.pop(name) for name in list(sys.modules) if name.partition('.')[0] == 'sklearn']; "
        "import sklearn; assert sklearn.__path__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_written_again_is_read_as_it_stands(tmp_path: Path, path: list[str], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: E501  # fmt: skip
    """Within a second and with as many letters: a compiled file kept of the first would pass for the second's."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "mine.py"
    for answer in (41, 42):
        file.write_text(f"answer = {answer}")
        os.utime(file, (1e9, 1e9))
        assert study.run(file).answer == answer
    assert [each.name for each in tmp_path.iterdir()] == ["mine.py"]
