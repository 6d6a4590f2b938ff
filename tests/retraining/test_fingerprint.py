"""A training function's fingerprint changes with its code and values, and with nothing else."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import unequal
from upweight.retraining.fingerprint import UnknownContentError, fingerprint
from upweight.retraining.fingerprint.readers import reader
from upweight.retraining.fingerprint.walk import Walk

MODULE = '''
import functools
import numpy as np
import torch
from torch import nn

RATE = {rate}
DATA = torch.arange(4.0) * {scale}
NAMES = {names}

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
    def forward(self, x):
        return {forward}

def step(model):
    """Words."""
    {comment}
    return {step}

def train(indices, seed, *, width={width}):
    net = Net()
    helper = lambda x: x + {inner}
    return step(net), RATE, DATA[indices].mean(), np.{library}(2.0), NAMES, helper(width)
'''
PLAIN: dict[str, Any] = {
    "rate": 0.1,
    "scale": 1,
    "names": "{'b', 'a', 'c', 'd'}",
    "forward": "self.layer(x)",
    "comment": "pass",
    "step": "model",
    "width": 4,
    "inner": 1,
    "library": "sqrt",
}
TELL = "import mine; from upweight.retraining.fingerprint import fingerprint; print(fingerprint(mine.train))"


def in_a_process(folder: Path, seed: str) -> str:
    """The fingerprint in a process of its own."""
    environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    result = subprocess.run(
        [sys.executable, "-B", "-c", TELL], env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def told(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    """The fingerprint of the function in a module that is written and imported anew."""
    file = folder / "mine.py"
    file.write_text(MODULE.format(**{**PLAIN, **changes}))
    module = types.ModuleType("mine")
    module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "mine", module)
    exec(compile(file.read_text(), str(file), "exec"), module.__dict__)
    return fingerprint(module.train)


def test_it_is_the_same_in_every_process_and_changes_with_what_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = told(tmp_path, monkeypatch)
    assert len(first) == 16
    assert {in_a_process(tmp_path, seed) for seed in ("1", "2")} == {first}
    assert told(tmp_path, monkeypatch, comment="# other words\n\n    pass") == first
    other: list[dict[str, Any]] = [
        {"rate": 0.2},
        {"scale": 2},
        {"names": "{'a', 'b'}"},
        {"forward": "self.layer(x).relu()"},
        {"step": "model.eval()"},
        {"width": 5},
        {"inner": 2},
        {"library": "exp"},
    ]
    found = [first, *(told(tmp_path, monkeypatch, **changes) for changes in other)]
    assert len(set(found)) == len(found), found


class Holder:
    """A user's object that can be called."""

    def __init__(self, value: Any):
        self.value = value

    def __call__(self, indices: Any, seed: int) -> Any:
        return self.value

    def method(self, indices: Any, seed: int) -> Any:
        return self.value


def function(value: Any) -> Any:
    return lambda indices, seed: value


VALUES = {
    "number": (1, 2),
    "kind of number": (1, 1.0),
    "text": ("a", "b"),
    "array": (np.zeros(3), np.array([0.0, 0.0, 1.0])),
    "precision": (np.zeros(3, dtype=np.float32), np.zeros(3)),
    "shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "objects": (np.array(["a", 1], dtype=object), np.array(["a", 2], dtype=object)),
    "tensor": (torch.zeros(3), torch.tensor([0.0, 0.0, -1.0])),
    "half": (torch.zeros(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.bfloat16)),
    "empty": (torch.zeros(0, 3), torch.zeros(3, 0)),
    "turned": (torch.arange(6.0).reshape(2, 3), torch.arange(6.0).reshape(3, 2).T),
    "table": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})),
    "columns": (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]})),
    "dict": ({"a": 1, "b": 2}, {"a": 1, "b": 3}),
    "list": ([1, [2, 3]], [1, [2, 4]]),
    "data set": (
        torch.utils.data.TensorDataset(torch.zeros(3)),
        torch.utils.data.TensorDataset(torch.ones(3)),
    ),
    "class": (torch.nn.ReLU, torch.nn.Tanh),
    "weights": tuple(torch.nn.utils.skip_init(torch.nn.Linear, 1, 1).requires_grad_(False) for _ in range(2)),
}
for number, layer in enumerate(VALUES["weights"]):
    for parameter in layer.parameters():
        parameter.fill_(number)
WAYS = {
    "closure": function,
    "partial": lambda value: functools.partial(function(0), value),
    "keyword": lambda value: functools.partial(function(0), value=value),
    "object": Holder,
    "method": lambda value: Holder(value).method,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", VALUES)
def test_values_count_by_content(kind: str, way: str) -> None:
    import copy

    one, other = VALUES[kind]
    make = WAYS[way]
    assert fingerprint(make(one)) == fingerprint(make(copy.deepcopy(one)))
    assert fingerprint(make(one)) != fingerprint(make(other))


def test_functions_that_call_each_other_and_values_that_hold_themselves_have_one() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert fingerprint(function(circle)) == fingerprint(function(circle))

    def even(indices: Any, seed: int) -> Any:
        return seed == 0 or odd(indices, seed - 1)

    def odd(indices: Any, seed: int) -> Any:
        return seed != 0 and even(indices, seed - 1)

    assert fingerprint(even) != fingerprint(odd)


@pytest.mark.parametrize("way", ["closure", "object"])
@pytest.mark.parametrize("kind", unequal.CASES)
def test_what_is_inside_counts(kind: str, way: str) -> None:
    (one, other), (again, _) = (unequal.pair(kind) for _ in range(2))
    make = WAYS[way]
    assert fingerprint(make(one)) == fingerprint(make(again))
    assert fingerprint(make(one)) != fingerprint(make(other))


def test_it_is_the_same_in_every_process_whatever_is_inside() -> None:
    """Neither addresses nor the order of sets, which the number decides, count."""
    path = os.pathsep.join(["tests", *sys.path])
    processes = [
        subprocess.Popen(
            [sys.executable, unequal.__file__],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    one, other = (process.communicate()[0].splitlines() for process in processes)
    assert len(one) == len(unequal.CASES)
    assert dict(zip(unequal.CASES, one, strict=True)) == dict(zip(unequal.CASES, other, strict=True))


def test_what_an_object_has_computed_does_not_count() -> None:
    one, other = unequal.Computed(1), unequal.Computed(1)
    assert other.double == 2
    assert fingerprint(function(one)) == fingerprint(function(other))


def test_locks_hold_nothing() -> None:
    import threading

    assert fingerprint(function(threading.Lock())) == fingerprint(function(threading.Lock()))
    assert fingerprint(function(threading.RLock())) == fingerprint(function(threading.RLock()))


UNKNOWN: dict[str, Callable[[], Any]] = {
    "_io.TextIOWrapper": lambda: sys.__stdout__,
    "generator": lambda: (i for i in range(3)),
    "numpy.ufunc": lambda: np.frompyfunc(lambda x: x, 1, 1),
    "RecursiveScriptModule": lambda: torch.jit.script(torch.nn.ReLU()),
    "nested too deeply": lambda: functools.reduce(lambda inner, _: [inner], range(3000), []),  # type: ignore[arg-type]
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_can_not_be_told_is_named(kind: str) -> None:
    with pytest.raises(UnknownContentError, match=kind) as raised:
        fingerprint(function({"settings": UNKNOWN[kind]()}))
    assert "nested" in kind or str(raised.value).startswith("value → settings: ")


def test_what_was_set_in_the_user_s_module_since_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "settings_of_mine.py").write_text("RATE = 1\nOTHER = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import space.settings_of_mine as settings  # type: ignore[import-not-found]  # in a folder without __init__.py

    space = sys.modules["space"]
    namespace: dict[str, Any] = {"space": space}
    exec("def train(indices, seed): return space.settings_of_mine.RATE", namespace)
    before = fingerprint(namespace["train"])
    settings.OTHER = 2
    assert fingerprint(namespace["train"]) == before
    settings.RATE = 2
    assert fingerprint(namespace["train"]) != before


def test_a_function_without_a_module_counts_by_its_code() -> None:
    made = []
    for number in (1, 2):
        namespace: dict[str, Any] = {}
        exec(f"def train(indices, seed): return {number}", namespace)
        made.append(namespace["train"])
    assert fingerprint(made[0]) != fingerprint(made[1])


def test_a_table_of_a_million_numbers_takes_no_time() -> None:
    frame = pd.DataFrame({f"x{i}": np.arange(100_000.0) for i in range(10)}).assign(name="a")
    started = time.perf_counter()
    fingerprint(function(frame))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("function", [os.path.join, functools.wraps, nn.functional.relu])
def test_functions_that_come_with_python_or_a_package_are_told_by_their_names(function: Any) -> None:
    """Those of modules that are frozen into Python too, whose code has no file."""
    parts = list(Walk(reader).parts(function))
    assert parts == [f"function {function.__qualname__}".encode(), str(function.__module__).encode()]
