"""The tables with planted errors: the same columns, labels, folds and penalty for every system, written to a file.

Adult, SUPPORT2 (death in hospital) and spambase with 10 % of the labels flipped; Adult's age, SUPPORT2's mean blood
pressure and spambase's longest run of capitals with 10 % of the numbers shifted by one to three standard deviations of
the target, up or down.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.fidelity import environments
from upweight import datasets, tabular
from upweight.datasets import cache, support2
from upweight.tabular.columns import encoder, prepared
from upweight.tabular.folds import folds
from upweight.tabular.linear import choose_l2

WRONG = 0.1
MOST_ROWS = 10_000
"""Of Adult's 32,561, drawn anew by every seed."""
SHIFTS = (1.0, 3.0)
CLASSES = ("adult", "support2", "spambase")
QUANTITIES = ("adult age", "support2 pressure", "spambase capitals")
TARGETS = {
    "adult": ("adult", "income"),
    "support2": ("support2", "hospdead"),
    "spambase": ("spambase", "type"),
    "adult age": ("adult", "age"),
    "support2 pressure": ("support2", "meanbp"),
    "spambase capitals": ("spambase", "capitalLong"),
}


@dataclass(frozen=True)
class Planted:
    """A table with errors in its target: encoded columns, given target, what is wrong, folds and λ."""

    design: np.ndarray
    given: np.ndarray
    wrong: np.ndarray
    fold: np.ndarray
    l2: float


def table_of(name: str) -> pd.DataFrame:
    """The rows as they are."""
    if name == "adult":
        frame = datasets.load("adult")
        return frame[frame["split"] == "train"].drop(columns=["split", "fnlwgt", "education-num"])
    if name == "support2":
        frame = datasets.load("support2")
        return support2.predictors(frame).assign(hospdead=frame["hospdead"])
    return pd.read_csv(_spambase())


def _spambase() -> Path:
    """The R file of Debian's r-cran-kernlab as a CSV, made in the peer's environment, which reads R's files."""
    file = cache.root() / "spambase.csv"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        script = Path(__file__).parent / "spambase.py"
        subprocess.run([environments.python("cleanlab"), script, file], check=True)
    return file


def planted(name: str, seed: int) -> Planted:
    """A problem: the same seed, the same problem."""
    random = np.random.default_rng(seed)
    source, target = TARGETS[name]
    frame = table_of(source).dropna(subset=[target])
    if len(frame) > MOST_ROWS:
        frame = frame.iloc[np.sort(random.permutation(len(frame))[:MOST_ROWS])]
    frame = frame.reset_index(drop=True)
    features = frame.drop(columns=target)
    columns = tabular.sorted_columns(features)
    wrong = np.zeros(len(frame), dtype=bool)
    wrong[random.choice(len(frame), round(WRONG * len(frame)), replace=False)] = True
    if name in CLASSES:
        values, names = pd.factorize(frame[target], sort=True)
        given = np.where(wrong, 1 - values, values).astype(np.int64)
        classes = tuple(map(str, names))
    else:
        values = frame[target].to_numpy(float)
        shift = random.choice([-1, 1], len(frame)) * random.uniform(*SHIFTS, len(frame)) * values.std()
        given, classes = np.where(wrong, values + shift, values), ()
    table = tabular.LabelledTable(Path(name), target, features, given, classes, columns)
    fold = np.zeros(len(frame), dtype=np.int64)
    for number, (_, outer) in enumerate(folds(table, seed)):
        fold[outer] = number
    design = encoder(columns).fit_transform(prepared(features, columns))
    l2 = choose_l2(table, columns, seed).l2
    assert l2 is not None
    return Planted(design, given, wrong, fold, l2)


def write(name: str, seed: int, file: Path) -> Planted:
    """The problem in a file that a peer reads."""
    found = planted(name, seed)
    np.savez(file, **vars(found))
    return found
