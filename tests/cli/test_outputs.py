"""No result takes the place of what a command reads, nor of anything else unasked; a run's files come all or none."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from upweight import files
from upweight.cli.outputs import plan
from upweight.errors import InputError
from upweight.spreadsheets import as_csv, safe

from .conftest import Planted, Run

READS: dict[str, tuple[list[str], str, list[str]]] = {
    "label-errors": (["-t", "y"], "source", ["csv", "html"]),
    "explain": (["-t", "y"], "source", ["csv", "html"]),
    "verify": (["-t", "y"], "source", ["png", "html"]),
    "domain-mismatch": (["-t", "y", "--group", "x < 3"], "source", ["csv", "png", "html"]),
    "domain-mismatch --test": (["-t", "y", "--group", "x < 3"], "--test", ["csv", "png", "html"]),
    "select": (["-t", "y", "-k", "2"], "source", ["csv", "png", "html"]),
    "select --reference": (["-t", "y", "-k", "2"], "--reference", ["csv", "png", "html"]),
    "attack": ([], "source", ["html"]),
    "unlearn": (["--class", "1"], "source", ["pt", "html"]),
    "correct-labels": (["--labels", "labels.csv"], "source", ["pt", "html"]),
    "correct-labels --labels": ([], "--labels", ["pt", "html"]),
    "compare": (["other.py"], "source", ["html"]),
}
"""Of each command: further arguments, what is read, and the endings of what is written."""


def hard(path: Path, target: Path) -> None:
    path.hardlink_to(target)


def soft(path: Path, target: Path) -> None:
    path.symlink_to(target)


def soft_by_folder(path: Path, target: Path) -> None:
    """The same file through a folder that is a link."""
    (path.parent / "folder").symlink_to(target.parent, target_is_directory=True)
    path.symlink_to(Path("folder") / target.name)


def itself(path: Path, target: Path) -> None:
    target.rename(path)


LINKS: list[Callable[[Path, Path], None]] = [itself, hard, soft, soft_by_folder]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize(("command", "ending"), [(name, ending) for name, row in READS.items() for ending in row[2]])
def test_an_input_is_never_an_output(
    command: str, ending: str, forced: bool, link: Callable[[Path, Path], None], run: Run, tmp_path: Path
) -> None:
    arguments, reads, _ = READS[command]
    mine = tmp_path / "mine"
    mine.mkdir()
    read = mine / "read.csv"
    read.write_text("x,y\n1,a\n")
    before = read.read_bytes()
    output = tmp_path / f"out.{ending}"
    link(output, read)
    given = output if link is itself else read
    options = ["--test", str(given)] if reads == "--test" else ["--labels", str(given)] if reads == "--labels" else []
    source = Path("other.csv") if options else given
    result = run(
        command.split()[0],
        source,
        *arguments,
        *options,
        "-o",
        Path("..") / tmp_path.name / "out.html",
        *(["--force"] if forced else []),
        "--json",
    )
    assert result.exit_code == 1, result.output
    told = json.loads(result.stdout)["error"]
    assert told["kind"] == "InputError"
    assert "which this command reads" in told["message"]
    assert given.read_bytes() == before
    assert output.read_bytes() == before


def test_the_readme_s_reader_keeps_the_file(iris: Planted, run: Run, tmp_path: Path) -> None:
    """The plainest case: the ranking would be written to the table that it ranks."""
    people = tmp_path / "people.csv"
    people.write_bytes(iris.path.read_bytes())
    result = run("label-errors", "people.csv", "-t", "target", "-o", "people.html")
    assert result.exit_code == 1
    assert people.read_bytes() == iris.path.read_bytes()
    assert not (tmp_path / "people.html").exists()


def test_a_named_report_is_replaced_with_force_alone(iris: Planted, run: Run, tmp_path: Path) -> None:
    (tmp_path / "page.csv").write_text("theirs")
    arguments = ("label-errors", iris.path, "-t", "target", "-o", "page.html")
    result = run(*arguments, "--json")
    assert result.exit_code == 1
    assert "page.csv is there already" in json.loads(result.stdout)["error"]["message"]
    assert (tmp_path / "page.csv").read_text() == "theirs"
    assert run(*arguments, "--force").exit_code == 0
    assert len(pd.read_csv(tmp_path / "page.csv")) == 150


def test_in_a_folder_results_get_the_next_number(iris: Planted, answer: Callable[..., dict], tmp_path: Path) -> None:
    arguments = ("label-errors", iris.path, "-t", "target")
    first, second = (answer(*arguments)["files"] for _ in range(2))
    assert [Path(path).name for path in first.values()] == [
        "label-errors.csv",
        "label-errors.html",
        "label-errors.fixed.csv",
    ]
    assert [Path(path).name for path in second.values()] == [
        "label-errors-2.csv",
        "label-errors-2.html",
        "label-errors-2.fixed.csv",
    ]
    assert answer(*arguments, "--force")["files"] == first


def test_a_set_is_numbered_as_one(tmp_path: Path) -> None:
    (tmp_path / "explain.csv").write_text("theirs")
    (tmp_path / "explain-2.html").symlink_to(tmp_path / "nowhere")
    found = plan(tmp_path, "explain", endings=[".csv"])
    assert [path.name for path in found.paths] == ["explain-3.csv", "explain-3.html"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["explain-2.html", "explain.csv"]


def test_a_file_that_comes_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    in_folder, named = plan(tmp_path, "explain", endings=[".csv"]), plan(tmp_path / "explain.html", "x")
    (tmp_path / "explain.html").write_text("theirs")
    written = in_folder.write({".csv": "1", ".html": "2"})
    assert [path.name for path in written.values()] == ["explain-2.csv", "explain-2.html"]
    with pytest.raises(InputError, match="is there already"):
        named.write({".html": "3"})
    assert (tmp_path / "explain.html").read_text() == "theirs"


def test_places_are_checked_before_work(run: Run, tmp_path: Path) -> None:
    """The source isn't even there: its absence would be told as soon as work begins."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.html").mkdir()
    for output, told in (("file/page.html", "file is no folder"), ("folder.html", "it is a folder")):
        result = run("explain", "nowhere.csv", "-t", "y", "-o", output, "--json")
        assert result.exit_code == 1
        assert told in json.loads(result.stdout)["error"]["message"]
    result = run("explain", "nowhere.csv", "-t", "y", "-o", "folder.html", "--json", "--force")
    assert "it is a folder" in json.loads(result.stdout)["error"]["message"]


def test_a_number_that_is_taken_meanwhile_is_followed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "explain.html").write_text("theirs")
    planned = plan(tmp_path, "explain")
    (tmp_path / "explain-2.html").write_text("theirs")
    assert planned.write({".html": "mine"})[".html"].name == "explain-3.html"


def test_what_a_killed_run_left_under_another_number_goes(tmp_path: Path) -> None:
    left = [".explain.html.0123abcd.draft", ".explain-2.csv.0123abcd.draft", ".explain-12.html.0123abcd.draft"]
    theirs = ["explain.csv", ".explain-x.csv.0123abcd.draft", ".explain-2.txt.0123abcd.draft", ".explain-2.csv"]
    for name in [*left, *theirs]:
        (tmp_path / name).write_text("half")
    for force, new in ((False, ["explain-2.csv", "explain-2.html"]), (True, ["explain.html"])):
        (tmp_path / left[2]).write_text("half")
        plan(tmp_path, "explain", endings=[".csv"], force=force).write({".csv": "1", ".html": "2"})
        theirs += new
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(theirs)


def test_a_study_that_changes_the_folder_moves_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked in one folder and written in another, a result could take the place of an input."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "page.html").write_text("theirs")
    monkeypatch.chdir(tmp_path)
    planned = plan(Path("page.html"), "explain", endings=[".csv"])
    monkeypatch.chdir(tmp_path / "other")
    assert planned.write({".csv": "1", ".html": "2"}) == {".csv": Path("page.csv"), ".html": Path("page.html")}
    assert (tmp_path / "page.csv").read_text() == "1"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["page.html"]
    assert planned.folder == tmp_path


def test_two_results_are_never_one_file(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("old")
    (tmp_path / "page.csv").symlink_to("page.html")
    with pytest.raises(InputError, match="are one file"):
        plan(tmp_path / "page.html", "explain", endings=[".csv"], force=True)


def test_the_user_s_folder_is_known_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert plan(Path("~/out"), "explain").report == tmp_path / "out" / "explain.html"
    with pytest.raises(InputError, match="no such user"):
        plan(Path("~nobody-of-this-name/out"), "explain")


@pytest.mark.parametrize("name", ["ranking.csv", "page.htm", "model.PT"])
def test_a_name_of_another_kind_of_file_is_no_new_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no name of a folder"):
        plan(tmp_path / name, "explain")
    (tmp_path / name).mkdir()
    assert plan(tmp_path / name, "explain").folder == tmp_path / name


@pytest.mark.parametrize("forced", [True, False])
@pytest.mark.parametrize(
    ("name", "told"), [("loop.html", "symbolic link"), ("device.html", "it is no file"), ("n" * 300, "too long")]
)
def test_a_place_that_takes_no_file_is_named(name: str, told: str, forced: bool, tmp_path: Path) -> None:
    """Put over a device by an administrator, a file would replace it for all."""
    (tmp_path / "loop.html").symlink_to("loop.html")
    (tmp_path / "device.html").symlink_to(os.devnull)
    with pytest.raises(files.NotWrittenError, match=told):
        plan(tmp_path / name, "explain", endings=[".csv"], inputs=[tmp_path / "a"], force=forced)


def test_the_folder_of_attacks_is_checked_before_work(run: Run, tmp_path: Path) -> None:
    (tmp_path / "attacks").write_text("theirs")
    result = run("attack", "nowhere.py", "-o", tmp_path, "--json")
    assert result.exit_code == 1
    assert "attacks is no folder" in json.loads(result.stdout)["error"]["message"]


def test_a_full_disk_leaves_no_half_pair(
    iris: Planted, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is written last: with it the disk is full."""
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "label-errors.csv").write_text("old")
    monkeypatch.setattr(files.os, "fsync", fsync)
    result = run("label-errors", iris.path, "-t", "target", "-o", "out", "--force", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)["error"]["message"]
    assert "label-errors.html: can't be written (No space left on device)" in told
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["label-errors.csv"]
    assert (tmp_path / "out" / "label-errors.csv").read_text() == "old"


def test_explain_writes_all_its_scores(iris: Planted, answer: Callable[..., dict], tmp_path: Path) -> None:
    found = answer("explain", iris.path, "-t", "target", "-o", tmp_path)
    written = pd.read_csv(found["files"]["all scores"])
    given = pd.read_csv(iris.path)
    score = f"score [{found['quantity']['unit']}]"
    assert len(written) == 120
    assert written[score].is_monotonic_decreasing
    assert written["row"][:5].tolist() == [row["row"] for row in found["helpful"]]
    assert written[score][:5].to_numpy() == pytest.approx([row["score"] for row in found["helpful"]])
    assert written["row"][::-1][:5].tolist() == [row["row"] for row in found["harmful"]]
    assert (written["label"].to_numpy() == given["target"][written["row"]].to_numpy()).all()
    assert (written["plot"].to_numpy() == given["plot"][written["row"]].to_numpy()).all()


def test_text_never_begins_a_formula() -> None:
    frame = pd.DataFrame({"=a": [-1.5, 2.0], "b": ["=1+1", "plain"], "c": ["@x", "-y"], "d": ["\tz", None]})
    lines = as_csv(frame).decode().splitlines()
    assert lines[0] == "'=a,b,c,d"
    assert lines[1] == "-1.5,'=1+1,'@x,'\tz"
    assert lines[2] == "2.0,plain,'-y,"
    mixed = pd.DataFrame({"a": pd.Series([-1, "+x"], dtype=object), "c": pd.Categorical(["=p", "q"])})
    assert as_csv(mixed).decode().splitlines()[1:] == ["-1,'=p", "'+x,q"]
    assert as_csv(pd.DataFrame({"a": ["＝1+1", "\n=1"]})).decode() == "a\n'＝1+1\n\"'\n=1\"\n"


@pytest.mark.parametrize(
    "amount", ["-7,25 €", "-$1,234.50", "+3 %", "- 12", "-1.234,5 CHF", "-5", "-1e5", "-", "-EUR 3", "-Rs. 2,461.47"]
)
def test_an_amount_with_its_sign_is_written_as_it_is(amount: str) -> None:
    assert safe(amount) == amount


@pytest.mark.parametrize(
    "cell", ["-A1", "-1+2", "-1*A1", "=7", "+cmd|' /C calc'!A0", "-7 A1", "-(3)", "@1", "-EUR A1", "-EURO 3"]
)
def test_what_a_spreadsheet_would_compute_is_guarded(cell: str) -> None:
    assert safe(cell) == f"'{cell}"
