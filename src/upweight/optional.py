"""Packages that scores don't need: imported where they are used, and a missing one is named with its pip line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from upweight.errors import MissingExtraError

EXTRAS = {
    "tables": ("pandas", "sklearn", "joblib", "threadpoolctl", "charset_normalizer"),
    "columns": ("skrub",),
    "excel": ("openpyxl", "pandas"),
    "plots": ("matplotlib",),
    "report": ("jinja2", "markupsafe", "PIL", "matplotlib"),
    "data": ("filelock", "pandas", "PIL", "platformdirs", "sklearn"),
    "remote": ("fsspec",),
    "parquet": ("pyarrow", "pandas"),
    "cli": (
        *("typer", "pandas", "sklearn", "joblib", "threadpoolctl", "charset_normalizer", "skrub"),
        *("matplotlib", "jinja2", "markupsafe", "PIL", "filelock", "platformdirs"),
    ),
    "explore": (
        *("nicegui", "fastapi", "uvicorn", "pyarrow", "typer", "pandas", "sklearn", "threadpoolctl", "matplotlib"),
        *("joblib", "charset_normalizer", "skrub", "jinja2", "markupsafe", "PIL", "filelock", "platformdirs"),
    ),
    "text": ("bm25s",),
    "ray": ("ray",),
    "slurm": ("submitit", "cloudpickle"),
}
"""What each extra of pyproject.toml brings, by the names that are imported."""


def pip(extra: str) -> str:
    """The line that installs an extra."""
    return f"pip install 'upweight[{extra}]'"


@contextmanager
def imported(extra: str, by: str) -> Iterator[None]:
    """Around imports of an extra's packages: one that isn't installed is told by its name and its pip line.

    Around a whole room of the package, whose imports may say so themselves, the room's own extra is named.

    Raises
    ------
    MissingExtraError
        If one isn't installed. A fault within a package that is stays as it is.
    """
    try:
        yield
    except (ModuleNotFoundError, MissingExtraError) as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS[extra]:
            raise
        raise _missing(package, extra, by) from error


def require(extra: str, by: str, *packages: str) -> None:
    """Refuse before work starts, where an extra's packages (by default all) come in only after it.

    Raises
    ------
    MissingExtraError
        If one isn't installed.
    """
    for package in packages or EXTRAS[extra]:
        with imported(extra, by):
            if find_spec(package) is None:
                raise _missing(package, extra, by)


def _missing(package: str, extra: str, by: str) -> MissingExtraError:
    return MissingExtraError(f"{by} needs {package}, which is not installed; {pip(extra)}", name=package)
