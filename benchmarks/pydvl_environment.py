"""The peer's own virtual environment, ``.venv-pydvl``: pinned, and sharing nothing with the project's."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).parent.parent / ".venv-pydvl"
PINS = ("torch==2.13.0", "pyDVL[influence]==0.10.0")
"""Its influence module imports dask, distributed and zarr, which the extra brings."""


def python() -> Path:
    """The environment's interpreter; makes the environment first if it isn't there or its pins have changed.

    Raises
    ------
    SystemExit
        If the packages can't be installed; the installer's own words stand above the message.
    """
    interpreter = FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = FOLDER / ".pins"
    if ready.is_file() and ready.read_text() == "\n".join(PINS):
        return interpreter
    print(f"making {FOLDER.name} with {', '.join(PINS)} (some minutes)", file=sys.stderr)
    venv.create(FOLDER, clear=True, with_pip=True)
    install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS]
    if subprocess.run(install, check=False).returncode or not _imports(interpreter):
        raise SystemExit(f"the peer's environment could not be made: pip could not give {', '.join(PINS)}")
    ready.write_text("\n".join(PINS))
    return interpreter


def _imports(interpreter: Path) -> bool:
    return subprocess.run([interpreter, "-c", "import pydvl.influence.torch"], check=False).returncode == 0


if __name__ == "__main__":
    print(python())
