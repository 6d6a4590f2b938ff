"""Each peer's own virtual environment, ``.venv-<peer>``: pinned, and sharing nothing with the project's.

python -m benchmarks.fidelity.environments            # makes all that can be made
python -m benchmarks.fidelity.environments pydvl trak
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TORCH = "torch==2.13.0"
"""In every pip command: a looser pin pulls gigabytes of CUDA on a machine without a GPU."""


@dataclass(frozen=True)
class Environment:
    """The packages of one peer, and the module whose import shows that they work."""

    pins: tuple[str, ...]
    module: str


PEERS = {
    "kronfluence": Environment((TORCH, "kronfluence==1.0.1"), "kronfluence.analyzer"),
    # Its influence module imports dask, distributed and zarr, which the extra brings.
    "pydvl": Environment((TORCH, "pyDVL[influence]==0.10.0"), "pydvl.influence.torch"),
    "dattri": Environment((TORCH, "dattri==0.3.0"), "dattri.algorithm"),
    "trak": Environment((TORCH, "traker==0.3.2"), "trak"),
    "captum": Environment((TORCH, "captum==0.9.0"), "captum.influence"),
}

OF_TABLES = {
    # What it looks for label errors with; rdata reads the R file of spambase.
    "cleanlab": Environment(("cleanlab[datalab]==2.9.0", "scikit-learn==1.9.1", "rdata==1.1.0"), "cleanlab.regression"),
}
"""Peers of `benchmarks.tables`, which attribute nothing and so are in no table of agreement."""

NOT_RUN = {
    "logix-ai 0.1.1": "no Python that this project supports: “Requires-Python <3.11.0,>=3.6.0”",
    "bergson 2.5.1": "models and data of Hugging Face's transformers only; beside torch's CPU build its import fails: "
    "“ModuleNotFoundError: Could not import module 'PreTrainedModel'”",
}
"""Peers without a script, and why."""


class Unavailable(Exception):
    """The peer can't be installed or imported here; the message holds the installer's or Python's last words."""


def python(peer: str) -> Path:
    """The interpreter of the peer's environment; makes the environment if it isn't there or its pins have changed.

    A failure is remembered with the pins, so that it isn't tried anew by every run: remove the folder to try again.

    Raises
    ------
    Unavailable
        If the packages can't be installed or imported.
    """
    environment, folder = (PEERS | OF_TABLES)[peer], ROOT / f".venv-{peer}"
    interpreter = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pins, failure = "\n".join(environment.pins), folder / ".failure"
    if not _same(folder / ".pins", pins):
        print(f"making {folder.name} with {', '.join(environment.pins)} (some minutes)", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        if reason := _fill(interpreter, environment):
            failure.write_text(reason)
        (folder / ".pins").write_text(pins)
    if failure.is_file():
        raise Unavailable(failure.read_text())
    return interpreter


def _same(file: Path, text: str) -> bool:
    return file.is_file() and file.read_text() == text


def _fill(interpreter: Path, environment: Environment) -> str:
    """Install and import; pip's first error or Python's last line, or nothing."""
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *environment.pins]
    for command in (install, ["-c", f"import {environment.module}"]):
        done = subprocess.run([interpreter, *command], stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            lines = done.stderr.strip().splitlines() or ["no words"]
            return next((line for line in lines if line.startswith("ERROR: ")), lines[-1]).removeprefix("ERROR: ")
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"of {', '.join(PEERS | OF_TABLES)} (default: all)")
    for peer in parser.parse_args().peers or PEERS | OF_TABLES:
        try:
            print(peer, python(peer))
        except Unavailable as reason:
            print(f"{peer} can't be used here: {reason}")


if __name__ == "__main__":
    main()
