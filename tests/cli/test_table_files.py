"""Files that are no table, what is read of a header, and pipes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Thread

import pytest

from .columns import COMMANDS, Ask, ordinary, refusal
from .conftest import Run

ROWS = ordinary().to_csv(index=False, header=False)
BAD_FILES = {
    "a name twice": (f"a,a,place,y\n{ROWS}", "'a' stands more than once in the header"),
    "a name twice but for spaces": (f"a, a,place,y\n{ROWS}", "'a' stands more than once in the header"),
    "the target twice": (f"a,y,place,y\n{ROWS}", "'y' stands more than once in the header"),
    "a name twice below a line break": (f'"a\nb",b,b,y\n{ROWS}', "'b' stands more than once in the header"),
    "a name of two lines twice": (f'"a\nb",b, "a\nb",y\n{ROWS}', "stands more than once in the header"),
    "a zero byte": (f"a,b,place,y\n{ROWS}1,\0,b,no", "is no text, a zero byte stands in line 62; save it as a UTF-8"),
    "a zero byte in a name": (f"a\0,b,place,y\n{ROWS}", "is no text, a zero byte stands in line 1"),
    "a cell too many": (
        f"a,b,place,y\n{ROWS}1,2,x,no,5\n",
        "row 60 (counted from 0 under the header) has 5 cells, and the header 4: 'a,b,place,y'; put a cell that holds "
        "',' in quotes",
    ),
    "a blank cell too many": (
        f"a,b,place,y\n{ROWS}1,2,x,no,\n",
        "row 60 (counted from 0 under the header) has 5 cells",
    ),
    "a remark before the header": (f"# mine\na,b,place,y\n{ROWS}", "has 4 cells, and the header 1: '# mine'"),
    "an open quote": (f'a,b,place,y\n{ROWS}1,"2,x,no\n{ROWS}', "a quote is open from row 60 (counted from 0 under"),
    "a long open quote": (f'a,b,place,y\n{ROWS}1,"2,x,no\n{ROWS * 200}', "a quote is open from row 60 (counted from"),
    "an open quote in the header": (f'a,b,"place,y\n{ROWS}', "a quote is open from the header to the end; close it"),
    "a long open quote in the header": (f'a,b,"place,y\n{ROWS * 200}', "a cell of its header is longer than 131,072"),
    "one class and words for none": (
        f"a,b,place,y\n{ROWS.replace('yes', 'None')}",
        "rows have no 'y' and were left out: empty cells and words such as NA or None are no class",
    ),
    "nothing": ("", "is empty; give a CSV with a header line and rows"),
    "blank lines": ("\n\n\n", "is empty; give a CSV with a header line and rows"),
    "a mark of byte order": ("\ufeff", "is empty; give a CSV with a header line and rows"),
    "a header": ("a,b,place,y", "has a header but no rows"),
    "one class": (f"a,b,place,y\n{ROWS.replace('yes', 'no')}", "'y' holds one class only ('no' in all 60 rows)"),
    "no target": (f"a,b,place,Y\n{ROWS}", "has no column 'y'; did you mean 'Y'? Its columns are 'a', 'b', 'place'"),
    "a blank target": (f"a,b,place,\n{ROWS}", "has no column 'y'. Its columns are 'a', 'b', 'place', 'Unnamed: 3'"),
    "only a target": ("y\n" + "yes\nno\n" * 30, "no column is left to predict from (there is none but the target)"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_table_is_refused_by_every_command(name: str, run: Run, tmp_path: Path) -> None:
    content, message = BAD_FILES[name]
    (tmp_path / "bad.csv").write_text(content, encoding="utf-8")
    for command in COMMANDS:
        assert message in refusal(run, command, "bad.csv", "-t", "y")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (f"\ufeffa,b,place,y\n{ROWS}", {"a", "b", "place"}),
        (f"\n\n a , b,place, y \n{ROWS}", {"a", "b", "place"}),
        (f",b,place,y\n{ROWS}", {"Unnamed: 0", "b", "place"}),
        (f'"a,1,2,3","b\n1",place,y\n{ROWS}', {"a,1,2,3", "b\n1", "place"}),
        (f'"a,1,2,3,4";b;place;y\n{ROWS.replace(",", ";")}', {"a,1,2,3,4", "b", "place"}),
        (f'"a;1;2;3;4",b,place,y\r\n{ROWS}', {"a;1;2;3;4", "b", "place"}),
        (f",,place,y\n{ROWS}", {"Unnamed: 0", "Unnamed: 1", "place"}),
        (ordinary().to_csv(), {"Unnamed: 0", "a", "b", "place"}),
    ],
    ids=[
        *("byte order mark", "spaces", "a blank name", "separators and lines in names", "commas beside semicolons"),
        *("semicolons beside commas", "two blank names", "row names"),
    ],
)
def test_names_of_columns_are_read(content: str, names: set[str], answer: Ask, tmp_path: Path) -> None:
    (tmp_path / "named.csv").write_text(content, encoding="utf-8")
    first = min(names)
    found = answer("label-errors", "named.csv", "-t", "y", "--drop", first)
    assert found["columns"].keys() == names
    assert found["columns"][first]["reason"] == "by --drop"


def test_a_pipe_is_read_like_a_file(run: Run, tmp_path: Path) -> None:
    """It gives what is written to it but once."""
    ordinary().to_csv("file.csv", index=False)
    os.mkfifo("pipe.csv")
    content = Path("file.csv").read_bytes()
    Thread(target=lambda: (tmp_path / "pipe.csv").write_bytes(content), daemon=True).start()
    found = [json.loads(run("label-errors", name, "-t", "y", "--json").stdout) for name in ("pipe.csv", "file.csv")]
    assert found[0]["columns"] == found[1]["columns"]
