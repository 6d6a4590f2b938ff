"""A choice from a pool as a data set of the pool's kind, so that what read the pool can read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upweight import files
    from upweight.cli.outputs import Outputs
    from upweight.cli.source import Source
    from upweight.tasks import Selection

TENSORS, LINES = ".pt", ".jsonl"
OWN = {LINES: "to_json", ".parquet": "to_parquet", ".csv": "to_csv"}
"""How a Hugging Face dataset writes itself, by the ending."""
ENDINGS = (TENSORS, *OWN)


def plan_export(path: Path, source: Path, read: Iterable[Path], outputs: Outputs, force: bool) -> Path:
    """The place of the data set, checked before a command works.

    Raises
    ------
    InputError
        If no pool of this kind could be written under such an ending, or it is in the way of another file.
    """
    from upweight.cli.outputs import plan_file
    from upweight.cli.study_file import is_study
    from upweight.errors import InputError

    can = ENDINGS if is_study(source) else (".csv",)
    if path.suffix.lower() not in can:
        raise InputError(f"--export: {path}: of {source.name} give a file that ends in {' or '.join(can)}")
    place = plan_file(path, "--export", inputs=read, force=force)
    if place.resolve() in [each.resolve() for each in outputs.paths]:
        raise InputError(f"--export: {path} is where this command's own results go; give another name")
    return place


def exported(found: Selection, opened: Source, path: Path) -> files.Content:
    """What the data set's file is written by.

    Of a table of text its own header and cells, of another its columns, the target first; of arrays what
    ``torch.load(path)`` gives in their nesting; of a Hugging Face dataset what it writes itself; of other examples a
    list of them, or a line of JSON each.

    Raises
    ------
    InputError
        If examples of this kind can't be written so.
    """
    from torch.utils.data import Subset

    from upweight.errors import InputError
    from upweight.spreadsheets import as_csv

    if opened.model is not None:
        written = opened.model.table.written
        if written is not None:
            return written.some(found.ids.tolist())
        return as_csv(opened.model.table.shown().iloc[found.positions])
    chosen, ending = found.subset(), path.suffix.lower()
    if ending in OWN and hasattr(chosen, OWN[ending]):
        return lambda stream: _by_itself(chosen, ending, stream)
    rows = [chosen[place] for place in range(len(chosen))] if isinstance(chosen, Subset | list) else None
    if ending == LINES and rows is not None and all(isinstance(row, Mapping | str) for row in rows):
        return "".join(_line(row) for row in rows)
    if ending != TENSORS:
        raise InputError(f"--export: {path}: the pool holds no rows with names; give a file that ends in {TENSORS}")
    import torch

    return lambda stream: torch.save(chosen if rows is None else rows, stream)


def _by_itself(dataset: Any, ending: str, stream: IO[bytes]) -> None:
    getattr(dataset, OWN[ending])(stream)


def _line(row: Mapping[str, Any] | str) -> str:
    """A row as a line of JSON; a text is a row of one column, which is what reads texts again."""
    named = row if isinstance(row, Mapping) else {"text": row}
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in named.items()}
    return json.dumps(plain, ensure_ascii=False) + "\n"
