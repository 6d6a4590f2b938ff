"""results.json as RESULTS.md: ``python -m benchmarks.replay.report``."""

from pathlib import Path

FILE = Path(__file__).parent / "results.json"


def write() -> None:
    pass
