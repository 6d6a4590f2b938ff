"""Where a command's results go: planned and checked before any work, written together at its end.

No result ever takes the place of a file that the command reads, by whatever name or link. Another file that is there
already is replaced with ``--force`` alone: in a folder the results get the next free number, and a report that was
named with ``--output`` is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from upweight import files
from upweight.messages import InputError

REPORT = ".html"


@dataclass(frozen=True)
class Outputs:
    """The files of one run of a command, that differ in their ending only.

    Attributes
    ----------
    report
        The report's path; the others lie beside it.
    endings
        Of the others, such as ``.csv``.
    inputs
        What the command reads.
    named
        Whether the user has named the report, rather than a folder.
    force
        Whether files that are there may be replaced.
    """

    report: Path
    endings: tuple[str, ...]
    inputs: tuple[Path, ...]
    named: bool
    force: bool

    @property
    def folder(self) -> Path:
        """Where the report lies."""
        return self.report.parent

    @property
    def paths(self) -> list[Path]:
        """All of them, the report last."""
        return [self.path(ending) for ending in (*self.endings, REPORT)]

    def path(self, ending: str) -> Path:
        """That of this ending; the report keeps the letters that it was named with."""
        return self.report if ending == REPORT else self.report.with_suffix(ending)

    def write(self, contents: Mapping[str, files.Content]) -> dict[str, Path]:
        """Write all, by their endings, or none; returns the path of each.

        Raises
        ------
        upweight.files.NotWrittenError
            If one can't be written; it is named.
        InputError
            If a file has come to the report's place since it was checked.
        """
        where = self
        while True:
            paths = {ending: where.path(ending) for ending in contents}
            try:
                files.write_all({paths[ending]: content for ending, content in contents.items()}, replace=self.force)
            except FileExistsError:
                if self.named:
                    _refuse_taken(where)
                where = _numbered(where)
            else:
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
    named = output.suffix.lower() == REPORT
    report = output if named else output / f"{name}{REPORT}"
    found = Outputs(report, tuple(endings), tuple(path for path in inputs if path is not None), named, force)
    if not named and not force:
        found = _numbered(found)
    for path in found.paths:
        _refuse_input(path, found.inputs)
    if named and not force and _taken(found):
        _refuse_taken(found)
    for path in found.paths:
        files.check(path)
    return found


def _numbered(outputs: Outputs) -> Outputs:
    """The first number under which none of the files is there; the first has none."""
    stem = outputs.report.stem
    for number in count(1):
        name = stem if number == 1 else f"{stem}-{number}"
        found = Outputs(outputs.folder / f"{name}{REPORT}", outputs.endings, outputs.inputs, False, outputs.force)
        if not _taken(found):
            return found
    raise AssertionError("numbers don't end")


def _taken(outputs: Outputs) -> list[Path]:
    return [path for path in outputs.paths if path.exists() or path.is_symlink()]


def _refuse_taken(outputs: Outputs) -> None:
    there = ", ".join(str(path) for path in _taken(outputs))
    raise InputError(f"--output: {there} is there already; give another name, or --force to replace it")


def _refuse_input(path: Path, inputs: Iterable[Path]) -> None:
    for source in inputs:
        if path.resolve() == source.resolve() or (path.exists() and source.exists() and path.samefile(source)):
            raise InputError(
                f"--output: {path} would be written over {source}, which this command reads; give another folder or "
                "another name"
            )
