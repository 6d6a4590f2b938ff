"""Two values of each of many kinds that a training function may use, unequal in what is inside; made anew at each call.

Run as a script, it prints the fingerprints of functions that use them.
"""

import argparse
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import io
import operator
import pathlib
import random
import re
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import upweight as uw


class Slots:
    """Without a dictionary."""

    __slots__ = ("a", "b")

    def __init__(self, a: Any):
        self.a = a


@dataclasses.dataclass
class Plain:
    """As most settings are."""

    a: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    """As careful people's settings are."""

    a: Any


class Colour(enum.Enum):
    """A choice."""

    RED = 1
    BLUE = 2


Point = collections.namedtuple("Point", "a b")


class Kept(dict):  # type: ignore[type-arg]
    """A dictionary with attributes."""


class Named(np.ndarray):  # type: ignore[type-arg]
    """An array with attributes, which its own pickling forgets."""


class Computed:
    """Keeps what it has computed."""

    def __init__(self, a: int):
        self.a = a

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.a


class Method:
    """Asked by a method."""

    def __init__(self, a: Any):
        self.a = a

    def ask(self) -> Any:
        return self.a


def with_attribute(made: Any, value: Any) -> Any:
    made.extra = value
    return made


def closure(value: Any) -> Callable[[], Any]:
    return lambda: value


def class_with(value: Any) -> type:
    return type("Made", (), {"value": value})


def with_property(value: Any) -> type:
    class Made:
        @property
        def value(self) -> Any:
            return value

    return Made


def as_torch_does(value: Any) -> Any:
    """By its name it is torch's own."""
    return functools.wraps(torch.nn.functional.relu)(lambda x: x * value)


def seeded(make: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return make()


def objective(l2: float = 0.1, **options: Any) -> uw.Objective:
    x, y = torch.arange(20.0).reshape(10, 2), torch.arange(10) % 2
    return uw.Objective(seeded(lambda: nn.Linear(2, 2)), uw.losses.CrossEntropy(**options), (x, y), l2=l2)


def optimizer(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(seeded(lambda: nn.Linear(2, 2)).parameters(), lr=lr)


def fitted(c: float) -> Any:
    return LogisticRegression(C=c).fit(np.arange(8.0).reshape(4, 2), [0, 1, 0, 1])


def forest(labels: list[int]) -> Any:
    return RandomForestClassifier(2, random_state=0).fit(np.arange(40.0).reshape(20, 2), labels)


def mixed(number: float) -> Any:
    """Between whose fields lies what nobody wrote."""
    found = np.empty(3, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))
    found["a"], found["b"] = 1, number
    return found


def shared(first: list[int], second: list[int], last: int) -> Any:
    return [first, second, (first, second)[last]]


def circle(value: int) -> Any:
    found = types.SimpleNamespace(value=value)
    found.itself = [found]
    return found


def decorated(value: int) -> Any:
    return functools.lru_cache(lambda x: x * value)


DATA = TensorDataset(torch.zeros(4))
Make = Callable[[Any], Any]
CASES: dict[str, tuple[Make, Any, Any]] = {
    "argparse": (lambda v: argparse.Namespace(a=v), 1, 2),
    "namespace": (lambda v: types.SimpleNamespace(a=v), 1, 2),
    "within": (lambda v: closure(Plain([Slots({"a": Frozen(v)})])), 1, 2),
    "slots": (Slots, 1, 2),
    "dataclass": (Plain, 1, 2),
    "frozen dataclass": (Frozen, 1, 2),
    "enum": (lambda v: v, Colour.RED, Colour.BLUE),
    "named tuple": (lambda v: Point(1, v), 1, 2),
    "dict's own class": (lambda v: with_attribute(Kept(a=1), v), 1, 2),
    "array's own class": (lambda v: with_attribute(np.zeros(2).view(Named), v), 1, 2),
    "parameter's attribute": (lambda v: with_attribute(nn.Parameter(torch.zeros(1)), v), 1, 2),
    "partial": (lambda v: functools.partial(print, v), 1, 2),
    "partial of torch": (lambda v: functools.partial(nn.functional.dropout, p=v), 0.1, 0.2),
    "method": (lambda v: Method(v).ask, 1, 2),
    "built-in method": (lambda v: [v].append, 1, 2),
    "closure": (closure, 1, 2),
    "attribute of a function": (lambda v: with_attribute(closure(0), v), 1, 2),
    "named as torch's": (as_torch_does, 1, 2),
    "cached function": (decorated, 1, 2),
    "class": (class_with, torch.zeros(1), torch.ones(1)),
    "property": (with_property, 1, 2),
    "itself": (circle, 1, 2),
    "shared": (lambda v: shared([1], [2], v), 0, 1),
    "set of objects": (lambda v: {Frozen("a"), Frozen("b"), Frozen(("c", v))}, 1, 2),
    "order of a dict": (dict, {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "keys": (lambda v: {v: 1}.keys(), "a", "b"),
    "read-only dict": (lambda v: types.MappingProxyType({"a": v}), 1, 2),
    "deque": (lambda v: collections.deque([1], maxlen=v), 2, 3),
    "counter": (collections.Counter, "a", "b"),
    "chain": (lambda v: collections.ChainMap({"a": v}), 1, 2),
    "path": (pathlib.Path, "a", "b"),
    "decimal": (decimal.Decimal, "1.0", "1.00"),
    "fraction": (lambda v: fractions.Fraction(1, v), 2, 3),
    "date": (lambda v: datetime.datetime(2020, 1, v), 1, 2),
    "pattern": (re.compile, "a", "b"),
    "getter": (operator.itemgetter, 1, 2),
    "stream": (io.StringIO, "a", "b"),
    "bytearray": (bytearray, b"a", b"b"),
    "slice": (slice, 1, 2),
    "alias": (lambda v: v, list[int], list[str]),
    "NumPy's function": (lambda v: v, np.sqrt, np.exp),
    "torch's function": (lambda v: v, torch.relu, torch.tanh),
    "Random": (random.Random, 0, 1),
    "default_rng": (np.random.default_rng, 0, 1),
    "Generator": (lambda v: torch.Generator().manual_seed(v), 0, 1),
    "dropout": (nn.Dropout, 0.1, 0.2),
    "activation": (lambda v: v(), nn.ReLU, nn.Tanh),
    "mode": (lambda v: nn.ReLU().train(v), True, False),
    "stride": (lambda v: seeded(lambda: nn.Conv2d(1, 1, 3, stride=v)), 1, 2),
    "label smoothing": (lambda v: nn.CrossEntropyLoss(label_smoothing=v), 0.0, 0.1),
    "transformer": (lambda v: seeded(lambda: nn.TransformerEncoderLayer(4, 2, dropout=v)), 0.1, 0.2),
    "recurrent": (lambda v: seeded(lambda: nn.LSTM(1, 1, dropout=v, num_layers=2)), 0.1, 0.2),
    "weight norm": (lambda v: seeded(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(v, 1))), 1, 2),
    "traced": (lambda v: torch.fx.symbolic_trace(v()), nn.ReLU, nn.Tanh),
    "optimiser": (optimizer, 0.1, 0.2),
    "schedule": (lambda v: torch.optim.lr_scheduler.StepLR(optimizer(0.1), v), 1, 2),
    "distribution": (lambda v: torch.distributions.Normal(0.0, v), 1.0, 2.0),
    "gradient wanted": (lambda v: torch.zeros(2, requires_grad=v), True, False),
    "sparse tensor": (lambda v: (v * torch.eye(2)).to_sparse(), 1, 2),
    "conjugate": (lambda v: torch.tensor([1j]).conj() * v, 1, 2),
    "negative": (lambda v: torch.tensor([v * 1j]).conj().imag, 1, 2),
    "part of a data set": (lambda v: Subset(DATA, [v]), 0, 1),
    "loader": (lambda v: DataLoader(DATA, batch_size=v), 1, 2),
    "Recipe": (lambda v: uw.retraining.Recipe(1, 2, v), 0.1, 0.2),
    "loss": (lambda v: uw.losses.CrossEntropy(temperature=v), 1.0, 2.0),
    "l2": (objective, 0.1, 0.2),
    "Objective's loss": (lambda v: objective(temperature=v), 1.0, 2.0),
    "inverse": (lambda v: uw.inverse.EKFAC(damping=v), 0.1, 0.2),
    "part of θ": (uw.select.highest_output, 0.1, 0.2),
    "estimator": (Ridge, 1.0, 2.0),
    "fitted": (fitted, 1.0, 2.0),
    "pipeline": (lambda v: make_pipeline(StandardScaler(), Ridge(v)), 1.0, 2.0),
    "forest": (forest, [0, 1] * 10, [0] * 10 + [1] * 10),
    "sparse matrix": (lambda v: scipy.sparse.csr_matrix(v * np.eye(2)), 1, 2),
    "masked": (lambda v: np.ma.array([1, 2], mask=v), [0, 1], [1, 0]),
    "fields": (mixed, 1.0, 2.0),
    "long doubles": (lambda v: np.full(3, 1, dtype=np.longdouble) + np.longdouble(v), 1e-18, 2e-18),
    "long objects": (lambda v: np.array([np.arange(2000) == v, 1], dtype=object), 999, 1000),
    "timestamp": (pd.Timestamp, "2020", "2021"),
    "categories": (lambda v: pd.Categorical(["a", "b"], ordered=v), True, False),
    "column of categories": (lambda v: pd.DataFrame({"a": pd.Categorical(["a", v, "b"])}), "a", "b"),
    "index": (lambda v: pd.DataFrame({"a": [1, 2]}, index=[0, v]), 1, 2),
    "column's precision": (lambda v: pd.DataFrame({"a": [1, 2]}, dtype=v), "int32", "int64"),
    "column of anything": (lambda v: pd.Series([v, "x"], dtype=object), 1, "1"),
    "missing": (lambda v: pd.Series(["a", v], dtype=object), "nan", None),
    "nullable": (lambda v: pd.array([v, None], dtype="Int64"), 1, 2),
    "time zone": (lambda v: pd.Series(pd.date_range("2020", periods=2, tz=v)), "UTC", "CET"),
}


def pair(name: str) -> tuple[Any, Any]:
    """The two values."""
    make, one, other = CASES[name]
    return make(one), make(other)


def function(value: Any) -> Any:
    return lambda indices, seed: value


if __name__ == "__main__":
    import unequal  # under the name that it has for those who import it
    from upweight.retraining.fingerprint import fingerprint

    for case in unequal.CASES:
        print(*(fingerprint(unequal.function(each)) for each in unequal.pair(case)))
