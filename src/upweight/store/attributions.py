"""What a saved attribution is: scores as a zarr array, and a description whose every entry is checked."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from upweight.errors import InputError, UpweightWarning, warn
from upweight.names import repeated
from upweight.store import marked_folder

MARKER = "attribution.json"
FORMAT = 2
SCORES = "scores.zarr"
WORDS = ("name", "words", "unit", "positive")
NAMES = ("ids", "query_ids")
NUMBERS = (int, float)
LARGEST = sys.float_info.max
ENTRIES = {"format", "quantity", "ids", "query_ids", "damping", "report", "solve", "facts", "magnitude"}
LATER = {"magnitude", "solve"}
"""Entries that results of earlier versions lack."""


def save(path: Path, scores: np.ndarray, description: dict[str, Any]) -> None:
    """Write scores ``[queries, train]`` or ``[train]`` with their description, in place of an earlier attribution.

    Raises
    ------
    InputError
        If the path holds something else, or ids are of a kind that wouldn't come back as it is.
    upweight.files.NotWrittenError
        If it can't be written; an earlier one is as it was.
    """
    scores = np.ascontiguousarray(scores)
    refusal = _fault({**description, "format": FORMAT}, scores)
    if refusal is not None:
        raise InputError(f"attribution: {refusal}, so it can't be saved")
    first = _is_first_format(path)
    if not first:
        marked_folder.refuse_other(path, MARKER)
    said = {
        **description,
        "format": FORMAT,
        "ids": _packed("ids", description["ids"]),
        "query_ids": _packed("query_ids", description["query_ids"]),
    }

    def fill(data: Path) -> None:
        # Where a chunk is missing all the same, no number stands in for it.
        zarr.create_array(data / SCORES, data=scores, fill_value=math.nan)

    marked_folder.save(path, MARKER, said, fill)
    if first:  # whose place the new one has now taken
        shutil.rmtree(path / "scores", ignore_errors=True)
        (path / "zarr.json").unlink(missing_ok=True)


def load(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores and description, every byte checked.

    Raises
    ------
    InputError
        If there is none, or it is damaged, or of a later format; the message names the file.
    """
    if not marked_folder.is_marked(path, MARKER) and _is_first_format(path):
        return _first_format(path)
    return marked_folder.read(path, MARKER, lambda found: _read(found, path / MARKER))


def _read(found: marked_folder.Marked, file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    said = found.description
    if not _is_format(said, FORMAT):
        raise InputError(f"path: {file} has format {said.get('format')!r}; this version reads 1 and {FORMAT}")
    unpacked = {**said, "ids": _unpacked(said, "ids", file), "query_ids": _unpacked(said, "query_ids", file)}
    scores = np.asarray(zarr.open_array(found.data / SCORES, mode="r")[...])
    return _right(unpacked, scores, file)


def _right(said: dict[str, Any], scores: np.ndarray, file: Path) -> tuple[np.ndarray, dict[str, Any]]:
    fault = _fault(said, scores)
    if fault is not None:
        raise _unexpected(fault, file)
    return scores, said


def _packed(name: str, ids: np.ndarray) -> dict[str, Any]:
    """Names with their kind, so that they come back as they are."""
    values = np.asarray(ids)
    if values.dtype.kind == "O":
        plain = [value.item() if isinstance(value, np.generic) else value for value in values.tolist()]
        odd = [value for value in plain if not isinstance(value, str | int | float)]
        if odd:
            raise InputError(
                f"{name}: {odd[0]!r} is a {type(odd[0]).__name__}, which can't be saved; give strings or numbers"
            )
        return {"kind": values.dtype.str, "values": plain}
    elif values.dtype.kind == "M":
        values, kind = values.astype(str), values.dtype.str
        return {"kind": kind, "values": values.tolist()}
    elif values.dtype.kind not in "biufU" or values.dtype == np.longdouble:
        raise InputError(f"{name}: {values.dtype} can't be saved; give strings or whole numbers")
    return {"kind": values.dtype.str, "values": values.tolist()}


def _unpacked(said: dict[str, Any], name: str, file: Path) -> np.ndarray:
    packed = said.get(name)
    if isinstance(packed, dict) and packed.keys() == {"kind", "values"}:
        try:
            values = np.array(packed["values"], dtype=np.dtype(packed["kind"]))
            if json.dumps(_packed(name, values)) == json.dumps(packed):
                return values
        except (TypeError, ValueError, OverflowError, MemoryError):
            pass
    raise _unexpected(_wrong(name, packed), file)


def _fault(said: dict[str, Any], scores: np.ndarray) -> str | None:
    """The first entry of a description that isn't what it should be, in words; None where all are."""
    if not ENTRIES - LATER <= said.keys() <= ENTRIES:
        return _wrong("entries", sorted(said))
    quantity, damping, facts = said["quantity"], said["damping"], said["facts"]
    if not isinstance(quantity, dict) or quantity.keys() != {*WORDS, "helpful_sign"}:
        return _wrong("quantity", quantity)
    sign = quantity["helpful_sign"]
    sized = damping is None or (_is_number(damping) and 0 <= damping < math.inf)
    told = isinstance(facts, dict) and all(isinstance(name, str) and _is_number(facts[name]) for name in facts)
    entries = {
        **{f"quantity.{word}": (isinstance(quantity[word], str), quantity[word]) for word in WORDS},
        "quantity.helpful_sign": (_is_number(sign) and sign in (-1, 0, 1), sign),
        "damping": (sized, damping),
        "report": (isinstance(said["report"], str), said["report"]),
        "solve": (_is_solve(said.get("solve")), said.get("solve")),
        "facts": (told, facts),
        "magnitude": (_is_magnitude(said.get("magnitude")), said.get("magnitude")),
        **{name: (np.ndim(said[name]) == 1, said[name]) for name in NAMES},
        "scores": (scores.dtype.kind == "f", scores.dtype),
    }
    for name, (right, value) in entries.items():
        if not right:
            return _wrong(name, value)
    for name in NAMES:
        twice = repeated(np.asarray(said[name]))
        if twice is not None:
            return f"{name} must be unique: {twice}"
    expected = (len(said["ids"]),) if scores.ndim == 1 else (len(said["query_ids"]), len(said["ids"]))
    return None if scores.shape == expected else _wrong("scores", f"of shape {scores.shape} beside names {expected}")


def _is_magnitude(value: Any) -> bool:
    if value is None:
        return True
    known = isinstance(value, dict) and value.keys() == {"trusted", "reason"}
    return known and isinstance(value["trusted"], bool) and isinstance(value["reason"], str)


def _is_solve(value: Any) -> bool:
    """What `SolveReport.to_dict` gives."""
    if value is None:
        return True
    words, figures = {"solver", "stopped"}, {"residual", "tolerance", "smallest_curvature", "standard_error"}
    if not isinstance(value, dict) or value.keys() != {*words, *figures, "damping", "iterations"}:
        return False
    counted = isinstance(value["iterations"], int) and not isinstance(value["iterations"], bool)
    told = all(value[name] is None or _is_number(value[name]) for name in figures)
    return counted and told and _is_number(value["damping"]) and all(isinstance(value[name], str) for name in words)


def _is_number(value: Any) -> bool:
    """A number that isn't NaN, and that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, NUMBERS):
        return False
    return value == math.inf or -LARGEST <= value <= LARGEST


def _is_format(said: dict[str, Any], number: int) -> bool:
    return type(said.get("format")) is int and said["format"] == number


def _wrong(name: str, value: Any) -> str:
    shown = value if name == "scores" else repr(value)
    return f"{name} can't be {shown if len(str(shown)) < 80 else str(shown)[:80] + '…'}"


def _unexpected(fault: str, file: Path) -> InputError:
    return InputError(
        f"path: {file} was altered, or is no saved attribution: {fault}; compute and save it again, or bring back "
        "a copy"
    )


def _is_first_format(path: Path) -> bool:
    """Whether an attribution of the first format is there: a zarr group, without a marker."""
    try:
        return "upweight" in zarr.open_group(path, mode="r").attrs
    except (OSError, KeyError, ValueError):  # nothing there, something else there, or nothing that zarr can read
        return False


def _first_format(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """An attribution without checksums: what can be checked is whether all is there."""
    group = zarr.open_group(path, mode="r")
    said: Any = dict(group.attrs["upweight"])  # type: ignore[arg-type]
    if not _is_format(said, 1):
        raise InputError(f"path: {path} has format {said.get('format')!r}; this version reads 1 and {FORMAT}")
    array: Any = group["scores"]
    if array.nchunks_initialized != array.nchunks:
        raise InputError(
            f"path: the saved attribution is damaged: {path / 'scores'} has {array.nchunks_initialized} of its "
            f"{array.nchunks} chunks (a chunk of zeros alone looks the same in this format); compute and save it "
            "again, or bring back a copy"
        )
    warn(
        f"{path} was saved without checksums (format 1): every file is there, but damage inside one can't be told; "
        "save it again",
        UpweightWarning,
    )
    try:
        scores = np.asarray(array[...])
    except Exception as error:  # whatever zarr and its codecs raise of a chunk that was cut
        raise _unexpected(f"its scores can't be read ({type(error).__name__}: {error})", path) from error
    found = {**said, "ids": np.asarray(said.get("ids")), "query_ids": np.asarray(said.get("query_ids"))}
    return _right(found, scores, path / "zarr.json")
