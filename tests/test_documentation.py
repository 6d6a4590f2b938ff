"""The commands of README and docs run as they are written, in their order; what a page shows is what they print."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from experiments.listed import LEFT_OUT
from typer.testing import CliRunner

from upweight import datasets
from upweight.cli.app import app
from upweight.estimators.convert import mappings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(upweight|(?:upweight|python examples/)\S* .*|python examples/\S*)$")
NEEDS = {"people.csv": "adult", "patients": "support2", "fashion_study": "fashion-mnist", "mnist": "mnist"}
"""The data set that has to be fetched for a command that mentions the word."""
LARGE = ("fashion_study", "fetch mnist")


@dataclass(frozen=True)
class Shown:
    """A command on a page, and the lines below it that it is said to print."""

    page: Path
    words: str
    printed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page.stem}: {self.words}"


def shown(page: Path) -> Iterator[Shown]:
    found: list[tuple[str, list[str]]] = []
    after_code = False
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language:
            after_code = True
            continue
        for line in block.splitlines():
            command = COMMAND.match(line)
            if command:
                after_code = False
                found.append((command[1], []))
            elif found and line.strip() and not after_code:  # in the command's block, or in one of its own below it
                found[-1][1].append(line)
    yield from (Shown(page, words, tuple(printed)) for words, printed in found)


ALL = [each for page in PAGES for each in shown(page)]


def heavy(each: Shown) -> bool:
    """Minutes of download or training: with the other large ones."""
    return any(word in each.words for word in LARGE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fresh clone's files that the commands name: a reader of one page has run no other's."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def ran(each: Shown, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """What a command prints; None where its data can't be had."""
    for word, name in NEEDS.items():
        if word in each.words:
            try:
                datasets.fetch(name, progress=False)
            except datasets.DataUnavailable:
                return None
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    program, *arguments = shlex.split(each.words, comments=True)
    if program == "python":
        runpy.run_path(arguments[0], run_name="__main__")
        return ""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, f"{each.words}\n{result.output}"
    return result.output


def test_there_are_commands_on_the_pages() -> None:
    assert len(ALL) >= 20
    assert {page.name for page in PAGES} - {each.page.name for each in ALL} == {
        "architecture.md",
        "choice.md",
        "choosing-an-inverse.md",
        "coming-from.md",
        "how-far-to-believe.md",
        "expansion.md",
        "index-of-gradients.md",
        "judging.md",
        "language-gpt.md",
        "language-minilm.md",
        "language-models.md",
        "large-networks.md",
        "notebooks.md",
        "papers.md",
        "releasing.md",
        "token-scores.md",
        "statistics.md",
        "tables.md",
    }


SESSIONS = [
    " ".join(shlex.split(line, comments=True))
    for page in PAGES
    for language, block in BLOCK.findall(page.read_text("utf-8"))
    for line in block.splitlines()
    if language == "console" and line.startswith("upweight ")
]
"""Commands that serve a page until they are ended, or are about files of one's own."""


def test_there_are_such_commands() -> None:
    assert len(SESSIONS) >= 10


@pytest.mark.parametrize("words", SESSIONS)
def test_a_command_that_is_only_shown_has_options_that_there_are(words: str) -> None:
    name, *arguments = shlex.split(words)[1:]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    assert command.make_context(name, arguments).params
    with pytest.raises(Exception, match=r"No such option:? '?--nonsense"):
        command.make_context(name, [*arguments, "--nonsense"])


MENTIONED = re.compile(r"`(upweight [^`]*)`")
PLACEHOLDERS = {
    "upweight domain-mismatch study.py --group \"region == 'north'\"",
    "upweight correct-labels study.py --labels corrected.csv",
}
"""Commands within a sentence that say what to do with files of one's own."""


def test_a_command_within_a_sentence_is_run_elsewhere_or_has_names_of_one_s_own() -> None:
    run = {each.words.split("#")[0].strip() for each in ALL}
    mentioned = {" ".join(words.split()) for page in PAGES for words in MENTIONED.findall(page.read_text("utf-8"))}
    with_arguments = {words for words in mentioned if len(words.split()) > 2}
    assert {words for words in with_arguments if words not in run} == PLACEHOLDERS


CODE = [(page, i, words) for page in PAGES for i, words in enumerate(CODE_BLOCK.findall(page.read_text("utf-8")))]
FRAGMENTS = {
    *("README 1", "domain-mismatch 0", "explain 0", "explain 1", "explain 2", "label-errors 0"),
    *("token-scores 0", "token-scores 1", "token-scores 2", "language-minilm 0", "language-minilm 1"),
}
"""Continue the page's example, or a model of the reader's own."""
COSTLY = {"attack 0", "language-gpt 0"}
"""Features of 2,400 photographs; a GPT trained on 34 plays."""


def named(page: Path, i: int) -> str:
    return f"{page.stem} {i}"


def whole() -> list[object]:
    kept = [(named(page, i), words) for page, i, words in CODE if named(page, i) not in FRAGMENTS]
    return [pytest.param(words, marks=[pytest.mark.slow_download] * (name in COSTLY), id=name) for name, words in kept]


def test_every_block_of_python_compiles_and_fragments_are_those_listed() -> None:
    for page, i, words in CODE:
        compile(words, named(page, i), "exec")
    assert {named(page, i) for page, i, words in CODE if "import" not in words} == FRAGMENTS


@pytest.mark.parametrize("words", whole())
def test_python_runs_as_it_is_written(words: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "page.py").write_text(words, encoding="utf-8")
    runpy.run_path("page.py", run_name="__main__")


@pytest.mark.download
@pytest.mark.parametrize("page", sorted({each.page for each in ALL}), ids=lambda page: page.stem)
def test_a_page_s_commands_run_as_they_are_written(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the page's order: later ones may read what earlier ones have written."""
    light = [each for each in ALL if each.page == page and not heavy(each)]
    if without := [each.words for each in light if ran(each, folder, monkeypatch) is None]:
        pytest.skip(f"data can't be had for {'; '.join(without)}")


STAND_INS = {"--ray auto": "--ray local", "--slurm timeout_min=60": "--slurm timeout_min=60 --slurm cluster=local"}
"""What is there where no cluster is."""
ON_CLUSTERS = [
    pytest.param(Shown(page, line), id=f"{page.stem}: {line}")
    for page in PAGES
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8"))
    if language == "sh"
    for line in block.splitlines()
    if line.startswith("upweight")
]


@pytest.mark.parametrize("each", ON_CLUSTERS)
def test_a_command_for_a_cluster_runs_on_what_stands_in_for_it(
    each: Shown, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = each.words
    for on_cluster, here in STAND_INS.items():
        words = words.replace(on_cluster, here)
    assert words != each.words
    ran(Shown(each.page, words.replace("--out ", f"--out {each.page.stem}-")), folder, monkeypatch)


NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?%?")
WITHIN = 0.05
"""How far a figure may move with another processor's rounding; whole numbers, names of rows among them, may not."""


def same(told: str, printed: str) -> bool:
    """Whether two lines have the same words, and the same figures to within rounding."""
    if NUMBER.sub("#", told).split() != NUMBER.sub("#", printed).split():
        return False
    for one, other in zip(NUMBER.findall(told), NUMBER.findall(printed), strict=True):
        if one != other and not ("." in one and number(other) == pytest.approx(number(one), rel=WITHIN)):
            return False
    return True


def number(word: str) -> float:
    return float(word.rstrip("%").replace(",", ""))


def settled(each: Shown) -> bool:
    """Whether rounding leaves the figures as they are: a network trained in float32 is another on other threads."""
    return "fashion_study" not in each.words


@pytest.mark.slow_download
@pytest.mark.parametrize("page", sorted({each.page for each in ALL if each.printed}), ids=lambda page: page.stem)
def test_a_page_shows_what_its_commands_print(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line; a line ``…`` on the page stands for any number of them."""
    for each in ALL:
        if each.page != page:
            continue
        printed = ran(each, folder, monkeypatch)
        if printed is None:
            pytest.skip(f"data can't be had for {each.words}")
        lines = iter(line for line in printed.splitlines() if line.strip())
        for told in each.printed if settled(each) else ():
            if told.strip() != "…":
                assert any(same(told, line) for line in lines), f"{each.words}: {told}"


def test_the_page_on_tables_names_every_estimator_that_has_an_objective() -> None:
    page = (ROOT / "docs" / "tables.md").read_text("utf-8")
    section = page.partition("## Estimators that have an objective\n")[2].partition("\n## ")[0]
    named_there = set(re.findall(r"`([A-Z]\w+)`", section))
    assert named_there == {kind.__name__ for kind in mappings()} | {"Pipeline", "TransformedTargetRegressor"}


def test_the_readme_names_every_dependency_and_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    section = (ROOT / "README.md").read_text("utf-8").partition("## Install\n")[2].partition("\n## ")[0]
    told = re.search(r"scores and retraining alone: (.*)", section)
    assert told is not None
    needed = [re.split(r"[>=]", each)[0] for each in project["dependencies"]]
    assert sorted(told[1].split(", ")) == sorted(needed)
    extras = set(project["optional-dependencies"]) - {"docs", "dev"}
    assert set(re.findall(r"\[(\w+)\]", section)) == extras


FIGURE = re.compile(
    r"^\| \[.*?\]\(\.\./experiments/RESULTS\.md#(?P<row>[\w-]+)\) \|.*?\| (?P<ours>[^|]*) \|$", re.MULTILINE
)
MEASURED = re.compile(r"\d[\d,.]*\d|\d")


def test_the_page_on_the_papers_tells_of_every_figure_what_was_measured() -> None:
    results = {}
    for folder in ("koh_liang", "gif"):
        for path in (ROOT / "experiments" / folder / "results").glob("*.json"):
            found = json.loads(path.read_text("utf-8"))
            results[found["id"]] = found
    page = (ROOT / "docs" / "papers.md").read_text("utf-8")
    told = {row["row"]: row["ours"] for row in FIGURE.finditer(page)}
    assert set(results) - set(told) == {"fig6_cnn", "gif_fashion-mnist"}  # in no paper, or of data that stand in
    for row, ours in told.items():
        numbers = set(MEASURED.findall(results[row]["ours"] + results[row]["why"]))
        assert set(MEASURED.findall(ours)) <= numbers, f"{row}: {ours}"


def test_the_page_on_the_papers_says_what_sizes_leave_out_as_the_experiments_do() -> None:
    lines = (ROOT / "docs" / "papers.md").read_text("utf-8").splitlines()
    assert [f"| {size} | {words} |" for size, words in LEFT_OUT.items()] == [
        line for line in lines if line.startswith(("| QUICK=1", "| default", "| FULL=1"))
    ]
