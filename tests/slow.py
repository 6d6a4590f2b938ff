"""Which test functions are slow, by a run that was timed: ``python tests/slow.py RUN.xml`` writes `slow.txt` anew.

The xml is pytest's own (``--junitxml=RUN.xml -o junit_family=xunit1``). A function is slow if its cases take more than
`SECONDS` on average, all of them together more than `TOGETHER`. `conftest.py` marks what is listed.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

LIST = Path(__file__).with_suffix(".txt")
SECONDS = 0.04
TOGETHER = 2.0


def slow(record: Path) -> list[str]:
    """Names as ``tests/room/test_file.py::test_function`` or ``…::TestClass::test_method``, sorted."""
    taken: defaultdict[str, list[float]] = defaultdict(list)
    for case in ElementTree.parse(record).iter("testcase"):
        taken[named(case)].append(float(case.attrib["time"]))
    return sorted(name for name, times in taken.items() if sum(times) > min(SECONDS * len(times), TOGETHER))


def named(case: ElementTree.Element) -> str:
    """Its node id without parameters: the file is that of its class, which may inherit the test from another's."""
    parts = case.attrib["classname"].split(".")
    module = 1 + next(place for place, part in enumerate(parts) if part.startswith("test_"))
    return "::".join(["/".join(parts[:module]) + ".py", *parts[module:], case.attrib["name"].partition("[")[0]])


def listed() -> frozenset[str]:
    """The names in the list."""
    return frozenset(LIST.read_text(encoding="utf-8").split())


if __name__ == "__main__":
    LIST.write_text("\n".join(slow(Path(sys.argv[1]))) + "\n", encoding="utf-8")
