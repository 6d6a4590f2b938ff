"""Where a command's results go: planned and checked before any work, written together at its end.

No result ever takes the place of a file that the command reads, by whatever name or link. Another file that is there
already is replaced with ``--force`` alone: in a folder the results get the next free number, and a report that was
named with ``--output`` is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count
from pathlib import Path

from upweight import files
from upweight.cli import reads
from upweight.errors import InputError

REPORT = ".html"
TABLES = (".csv", ".parquet", ".xlsx")
"""Of a table that is written in the format in which it was read."""
NO_FOLDERS = (".htm", ".xhtml", ".csv", ".png", ".pt", ".pdf", ".json", ".txt")
"""Who ends a new --output so thinks of a file, and would be surprised by a folder of that name."""


@dataclass(frozen=True)
class Outputs:
    """The files of one run of a command, that differ in their ending only.

    Attributes
    ----------
    report
        The report's path; the others lie beside it.
    name
        What they are called in a folder, before any number.
    endings
        Of the others, such as ``.csv``.
    inputs
        What the command reads.
    named
        Whether the user has named the report, rather than a folder.
    force
        Whether files that are there may be replaced.
    start
        The folder that the command began in: a study file may change it before the results are written.
    """

    report: Path
    name: str
    endings: tuple[str, ...]
    inputs: tuple[Path, ...]
    named: bool
    force: bool
    start: Path

    @property
    def folder(self) -> Path:
        """Where the report lies, whatever the current folder."""
        return self.start / self.report.parent

    @property
    def paths(self) -> list[Path]:
        """All of them, the report last."""
        return [self.path(ending) for ending in (*self.endings, REPORT)]

    def path(self, ending: str) -> Path:
        """That of this ending; the report keeps the letters that it was named with."""
        return self.report if ending == REPORT else self.report.with_suffix(ending)

    def refuse_what_was_read(self) -> None:
        """Refuse to go on where a result would be written over a file that was opened for reading since the start.

        A study reads files of its own, which nobody knows before it has run.

        Raises
        ------
        InputError
            If so; it is named.
        """
        for path in self.paths:
            self.refuse_read(path)

    def refuse_read(self, path: Path, option: str = "--output") -> None:
        """The same of another file that this command writes, by its option."""
        read = reads.now().find(self.start / path)
        if read is not None and os.path.lexists(self.start / path):
            _refuse_over(path, read, option)

    def write(self, contents: Mapping[str, files.Content]) -> dict[str, Path]:
        """Write all, by their endings, or none; returns the path of each.

        Raises
        ------
        upweight.files.NotWrittenError
            If one can't be written; it is named.
        InputError
            If a file has come to the report's place since it was checked.
        """
        self.refuse_what_was_read()
        where = self
        while True:
            paths = {ending: where.path(ending) for ending in contents}
            drafts = {self.start / paths[ending]: content for ending, content in contents.items()}
            try:
                files.write_all(drafts, replace=self.force)
            except FileExistsError:
                if self.named:
                    _refuse_taken(where)
                where = _numbered(self)
            else:
                if not self.named:  # what a killed run has left under other numbers
                    endings = "|".join(re.escape(path.suffix) for path in self.paths)
                    files.clear_all(self.folder, rf"{re.escape(self.name)}(-[0-9]+)?({endings})")
                return paths


def plan(
    output: Path, name: str, *, endings: Sequence[str] = (), inputs: Iterable[Path | None] = (), force: bool = False
) -> Outputs:
    """The places of a command's results, checked before it works.

    Parameters
    ----------
    output
        The report's file if it ends in ``.html``, else a folder.
    name
        What the files are called in a folder, such as ``label-errors``.
    endings
        Of what is written beside the report.
    inputs
        All that the command reads; None for what was not given.

    Raises
    ------
    InputError
        If a result would be written over an input, or over another file without ``force``.
    upweight.files.NotWrittenError
        If a folder can't be made or written to.
    """
    output = _home(output)
    named = output.suffix.lower() == REPORT
    if not named and output.suffix.lower() in NO_FOLDERS and not os.path.isdir(output):
        raise InputError(
            f"--output: {output} is no name of a folder; give a folder, or the report's file, as in x.html"
        )
    report = output if named else output / f"{name}{REPORT}"
    read = tuple(path for path in inputs if path is not None)
    found = Outputs(report, name, tuple(endings), read, named, force, Path.cwd())
    if not named and not force:
        found = _numbered(found)
    for path in found.paths:
        files.check(path)
    for path in found.paths:
        _refuse_input(path, found.inputs)
    if named and not force and _taken(found):
        _refuse_taken(found)
    _refuse_one_for_two(found.paths)
    return found


def plan_file(path: Path, option: str, *, inputs: Iterable[Path] = (), force: bool = False) -> Path:
    """The place of a single file that an option names, checked before a command works; as `plan`."""
    path = _home(path, option)
    files.check(path)
    _refuse_input(path, inputs, option)
    if os.path.lexists(path) and not force:
        raise InputError(f"{option}: {path} is there already; give another name, or --force to replace it")
    return path


def _home(output: Path, option: str = "--output") -> Path:
    """With ``~`` as the user's folder: a shell leaves it as it is in ``--output=~/results``."""
    try:
        return output.expanduser()
    except RuntimeError:
        raise InputError(f"{option}: {output}: there is no such user; give the folder's whole name") from None


def _numbered(outputs: Outputs) -> Outputs:
    """The first number under which none of the files is there; the first has none."""
    for number in count(1):
        name = outputs.name if number == 1 else f"{outputs.name}-{number}"
        found = replace(outputs, report=outputs.report.with_name(f"{name}{REPORT}"))
        if not _taken(found):
            return found
    raise AssertionError("numbers don't end")


def _taken(outputs: Outputs) -> list[Path]:
    return [path for path in outputs.paths if os.path.lexists(outputs.start / path)]


def _refuse_taken(outputs: Outputs) -> None:
    there = ", ".join(str(path) for path in _taken(outputs))
    raise InputError(f"--output: {there} is there already; give another name, or --force to replace it")


def _refuse_one_for_two(paths: Sequence[Path]) -> None:
    """Where links make two results one file, the second would be written over the first."""
    for path, other in combinations(paths, 2):
        if path.resolve() == other.resolve():
            raise InputError(
                f"--output: {path} and {other} are one file, by a link; give another folder or another name"
            )


def _refuse_input(path: Path, inputs: Iterable[Path], option: str = "--output") -> None:
    for source in inputs:
        if path.resolve() == source.resolve() or (path.exists() and source.exists() and path.samefile(source)):
            _refuse_over(path, source, option)


def _refuse_over(path: Path, source: object, option: str = "--output") -> None:
    raise InputError(
        f"{option}: {path} would be written over {source}, which this command reads; give another folder or another "
        "name"
    )
