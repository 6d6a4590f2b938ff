"""What is published: built, described, installed apart from this checkout, and used as the README says."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
USER = """
import torch
import upweight as uw

def scores(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.01)
    attribution = uw.Influence(objective, uw.inverse.EKFAC()).attribute((x, y))
    top: uw.Quantity = attribution.quantity
    print(top.unit)
    return attribution.scores
"""


def run(*words: str | Path, cwd: Path, ok: bool = True) -> str:
    apart = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # which names this checkout
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=apart, capture_output=True, text=True, timeout=600
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both archives."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that pip has installed the wheel into, and this one's libraries without this checkout."""
    place = tmp_path_factory.mktemp("clean") / "env"
    venv.create(place, with_pip=False)
    own = next(place.glob("lib/python*/site-packages"))
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        place / "bin" / "python",
        "--disable-pip-version-check",
    ]
    run(*pip, "install", "--no-index", "--no-deps", next(built.glob("*.whl")), cwd=place)
    others = Path(pytest.__file__).parents[1]  # a path in a .pth file: what it names in turn isn't followed
    (own / "libraries.pth").write_text(str(others))
    return place / "bin" / "python"


def test_both_archives_hold_what_they_should_and_describe_it(built: Path) -> None:
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert "upweight/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"upweight", f"upweight-{PROJECT['version']}.dist-info"}
    with tarfile.open(source) as archive:
        inside = [name.split("/", 1)[1] for name in archive.getnames() if "/" in name]
    said = {"README.md", "LICENSE", "CHANGELOG.md", "Makefile", "mkdocs.yml", "src/upweight/py.typed"}
    assert {*said, "tests/conftest.py", "experiments/RESULTS.md", "docs/architecture.md"} <= set(inside)
    assert not [name for name in inside if name.startswith((".ci", ".github", ".venv"))]
    assert source.stat().st_size < 2**23
    assert wheel.stat().st_size < 2**21
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, source, cwd=built)


def test_the_wheel_runs_the_readme_s_lines_apart_from_this_checkout(python: Path, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "lines.py").write_text(lines + "\nprint(uw.__file__, uw.__version__)\n", encoding="utf-8")
    said = run(python, "lines.py", cwd=tmp_path)
    assert "most helpful" in said
    where, version = said.splitlines()[-1].split()
    assert Path(where).is_relative_to(python.parents[1])
    assert version == PROJECT["version"]
    assert "label-errors" in run(python, "-m", "upweight", "--help", cwd=tmp_path)
    assert run(python.with_name("upweight"), "--version", cwd=tmp_path) == f"upweight {PROJECT['version']}\n"


def test_what_the_wheel_asks_for_is_what_the_project_declares(built: Path) -> None:
    """What scores import without an extra is seen by `test_extras.py`."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        name = next(each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(wheel.read(name))
    asked = [Requirement(each) for each in said.get_all("Requires-Dist", [])]
    plain = {str(each) for each in asked if each.marker is None}
    assert plain == {str(Requirement(each)) for each in PROJECT["dependencies"]}
    assert set(said.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    for extra, wanted in PROJECT["optional-dependencies"].items():
        of_extra = {each.name for each in asked if each.marker and each.marker.evaluate({"extra": extra})}
        assert of_extra >= {Requirement(each).name for each in wanted} - {PROJECT["name"]}, extra


def test_a_user_s_file_is_strictly_typed(python: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(USER.replace("-> torch.Tensor", "-> int"), encoding="utf-8")
    checked = sys.executable, "-m", "mypy", "--strict", "--python-executable", python
    said = run(*checked, "user.py", "wrong.py", cwd=tmp_path, ok=False)
    assert said.count(": error: ") == 1
    assert 'got "Tensor", expected "int"' in said


def test_versions_are_the_same_wherever_they_stand() -> None:
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    declared = {each.rsplit(" ", 1)[1] for each in PROJECT["classifiers"] if "Python :: 3." in each}
    assert min(declared, key=lambda each: int(each.split(".")[1])) == PROJECT["requires-python"].removeprefix(">=")
