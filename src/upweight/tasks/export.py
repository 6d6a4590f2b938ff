"""Suspicious labels as files that other tools open: cleanlab, Embedding Atlas, FiftyOne."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from upweight import files, kinds, scalars
from upweight.errors import InputError
from upweight.optional import imported
from upweight.quantities.perturbation import input_key
from upweight.spreadsheets import as_csv
from upweight.tasks.label_errors import LabelErrors
from upweight.tasks.target_errors import TargetErrors

if TYPE_CHECKING:
    import pandas as pd

Form = Literal["cleanlab", "embedding-atlas", "fiftyone"]
FORMS: tuple[Form, ...] = get_args(Form)
NEIGHBOURS = 10
MOST_NUMBERS = 2**27
"""Of the inputs that a projection is made of: 1 GiB."""


def export(
    errors: LabelErrors | TargetErrors,
    path: str | os.PathLike[str],
    form: Form,
    *,
    columns: Any = None,
    coordinates: Any = None,
    filepaths: Sequence[str] | None = None,
) -> Path:
    """Write all examples, in the order of the training data, in the form that a tool expects.

    =================== ====================================================================================
    form                file
    =================== ====================================================================================
    ``cleanlab``        Parquet with ``is_label_issue``, ``label_quality``, and ``given_label`` and
                        ``predicted_label`` as class numbers: what ``CleanLearning.get_label_issues`` gives and
                        its ``fit`` takes as ``label_issues``
    ``embedding-atlas`` Parquet with ``projection_x``, ``projection_y`` and ``neighbors``: ``embedding-atlas
                        FILE --x projection_x --y projection_y --neighbors neighbors``
    ``fiftyone``        CSV with ``filepath`` first: ``Dataset.from_dir(dataset_type=types.CSVDataset,
                        labels_path=FILE, fields={"given": str, "suggested": str, "score": float, "suspicious":
                        "True".__eq__})``; without ``fields`` it takes every column, numbers too, for text
    =================== ====================================================================================

    Parameters
    ----------
    errors
        What `label_errors` or `target_errors` gave.
    path
        Of the file, written whole or not at all.
    form
        ``cleanlab``, ``embedding-atlas`` or ``fiftyone``.
    columns
        The examples' own values, in the order of the training data, written beside the scores: a data frame, or a dict
        of a list for each name.
    coordinates
        Places of the examples on a map, ``[train, 2]`` (default: the two main directions of the model's inputs).
    filepaths
        Of the examples' images, in the order of the training data; FiftyOne needs them, whole: those of files that are
        found from the current folder are written so.

    Returns
    -------
    The path of the file, a row for each training example in the order of the training data.

    Raises
    ------
    InputError
        If something given, or one of the columns, has another length than the training data, or FiftyOne is given no
        paths.
    upweight.files.NotWrittenError
        If the file can't be written.
    """
    kinds.check(export, locals())
    scalars.one_of("form", form, FORMS)
    frame = errors.to_pandas().sort_values("position", ignore_index=True)
    for name, given in (("columns", columns), ("coordinates", coordinates), ("filepaths", filepaths)):
        if isinstance(given, Mapping) and given:
            _refuse_short(name, given, len(frame))
        elif given is not None and _length(given) != len(frame):
            raise InputError(
                f"{name}: got {_length(given) or scalars.shown(given)}; give one for each of the {len(frame)} training "
                "examples"
            )
    if form == "cleanlab":
        return files.write(path, _parquet(_with(_for_cleanlab(errors, frame), columns)))
    shown = frame.drop(columns="position")
    if form == "fiftyone":
        if filepaths is None:
            raise InputError("filepaths: FiftyOne shows images; give the path of each training example's")
        shown = _with(shown.rename(columns={"id": "example"}), columns)
        shown.insert(0, "filepath", [_whole(str(each)) for each in filepaths])
        return files.write(path, as_csv(shown))
    inputs = _inputs(errors)
    places = _main_directions(inputs) if coordinates is None else np.asarray(coordinates, dtype=float)
    if places.shape != (len(frame), 2):
        raise InputError(f"coordinates: got shape {places.shape}; give [train, 2]")
    shown = shown.assign(projection_x=places[:, 0], projection_y=places[:, 1])
    near: Any = _neighbours(inputs)
    shown["neighbors"] = near
    return files.write(path, _parquet(_with(shown, columns)))


def _whole(path: str) -> str:
    """FiftyOne finds no file by a path that begins in the current folder."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _refuse_short(argument: str, given: Mapping[Any, Any], examples: int) -> None:
    """Each of the columns must have a value for each example."""
    for name, values in given.items():
        if isinstance(values, str) or getattr(values, "ndim", 1) != 1 or _length(values) != examples:
            length = None if isinstance(values, str) else _length(values)
            got = scalars.shown(values) if length is None else f"{length} values"
            got = f"shape {tuple(values.shape)}" if getattr(values, "ndim", 1) > 1 else got
            raise InputError(f"{argument}: {name!r} has {got}; give one for each of the {examples} training examples")


def _length(given: Any) -> int | None:
    try:
        return len(given)
    except TypeError:
        return None


def _for_cleanlab(errors: LabelErrors | TargetErrors, frame: pd.DataFrame) -> pd.DataFrame:
    """By cleanlab's names: labels are class numbers, as it wants them; a low quality is a suspicious one."""
    labels: dict[str, Any]
    if isinstance(errors, LabelErrors):
        said = errors.predictions
        labels = {"given_label": said.given.cpu().numpy(), "predicted_label": said.predicted.cpu().numpy()}
    else:
        labels = {"given_label": frame["given"], "predicted_label": frame["suggested"]}
    if "p_given" in frame:
        quality = frame["p_given"]
    else:  # between 0 and 1, and ½ at the median
        quality = 1 / (1 + frame["score"] / max(float(frame["score"].median()), np.finfo(float).tiny))
    return frame[["given", "suggested"]].assign(is_label_issue=frame["suspicious"], label_quality=quality, **labels)


def _with(frame: pd.DataFrame, columns: Any) -> pd.DataFrame:
    """The user's columns beside ours, under another name where it is taken."""
    if columns is None:
        return frame
    with imported("tables", "tasks.export"):
        import pandas as pd
    if isinstance(columns, Mapping):  # without the rows' names of series, by which pandas would put them in order
        columns = {name: getattr(values, "array", values) for name, values in columns.items()}
    own = pd.DataFrame(columns).reset_index(drop=True)
    own.columns = [f"{name} (column)" if str(name) in frame.columns else str(name) for name in own.columns]
    return pd.concat([frame, own], axis=1)


def _parquet(frame: pd.DataFrame) -> bytes:
    with imported("parquet", "tasks.export"):
        import pyarrow  # noqa: F401
    for name in frame.columns:
        held = frame[name]
        if held.dtype == object and name != "neighbors":  # of mixed kinds, which no column of Parquet holds
            frame = frame.assign(**{name: held.map(str, na_action="ignore")})
    buffer = BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _inputs(errors: LabelErrors | TargetErrors) -> np.ndarray:
    """The first floating-point input of every training example, flat, ``[train, numbers]``."""
    objective = errors.influence.objective
    one = objective.data.take([0])
    key = input_key(one, None)
    if one[key].numel() * objective.n > MOST_NUMBERS:
        raise InputError(f"coordinates: the inputs hold {one[key].numel() * objective.n:,} numbers; give coordinates")
    parts = [batch[key].reshape(len(index), -1).cpu() for index, batch in objective.batches()]
    return torch.cat(parts).double().numpy()


def _main_directions(inputs: np.ndarray) -> np.ndarray:
    centred = inputs - inputs.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    found = centred @ vectors[:, ::-1][:, :2]
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def _neighbours(inputs: np.ndarray) -> list[dict[str, list[Any]]]:
    """Of every example its nearest in the model's inputs, by row."""
    with imported("tables", "tasks.export"):
        from sklearn.neighbors import NearestNeighbors
    k = min(NEIGHBOURS, len(inputs) - 1)
    if not k:
        return [{"ids": [], "distances": []} for _ in inputs]
    distances, rows = NearestNeighbors(n_neighbors=k).fit(inputs).kneighbors()
    return [{"ids": near.tolist(), "distances": far.tolist()} for near, far in zip(rows, distances, strict=True)]
