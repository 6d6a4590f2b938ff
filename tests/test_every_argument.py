"""Every argument of the public face, given what it never is: refused by name, or taken where it makes sense.

Calls are those of `every_call.py`, with arguments that are right; each argument in turn is then None, text, a number,
nothing, a class in place of its instance. Whatever comes of it must be an error of this package that names the
argument, or a success that is listed, or fits the argument's annotation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import upweight as uw
from every_call import calls
from upweight.errors import InputError

pytestmark = [
    pytest.mark.usefixtures("unchecked"),
    pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning"),
]

META, META_ROW = torch.ones((), device="meta"), torch.ones(3, device="meta")
WRONG: tuple[Any, ...] = (None, "abc", 3, -1, math.nan, math.inf, [], {}, object(), META, META_ROW)


ALIASES = {
    ("data", "queries"),  # a data set is read as queries are
    ("query", "queries"),
    ("examples", "queries"),
    ("reference", "queries"),
    ("test", "queries"),
    ("train", "indices"),
    ("jobs", "subsets"),
    ("patterns", "parameters"),
    ("masks", "parameters"),
    ("parameters", "ratio"),  # none given: the rule that stands for it
    ("name", "no data set is called"),
}
"""Arguments that messages call by another name."""
NOTHING = {
    *("at", "attribution", "attributions", "bands", "batch_size", "batches", "budget", "class_names", "clip"),
    *("collate", "columns", "coordinates", "curvature", "data", "examples", "filepaths", "folder", "further"),
    *("ids", "images", "indices", "inverse", "l2", "layer", "loss", "marked", "marks", "measurement"),
    *("models", "moments", "name", "names", "network", "optimizer", "outputs", "parameters", "params"),
    *("preconditioner", "projection", "query_ids", "query_table", "query_tokens", "questions", "rate"),
    *("retrain", "rounds", "sample", "sample_weight", "seed", "seeds", "signs", "smooth", "solver", "start"),
    *("table", "task", "tokenizer", "tokens", "tolerance", "train", "weights", "where", "wrt", "y"),
}
"""Arguments that may be None."""
TEXT = {
    *("caption", "folder", "foot", "name", "positive", "quantity", "summary", "text", "title", "unit"),
    *("units", "what", "words", "xlabel", "ylabel"),
}
"""Arguments that are any text."""
NUMBERS = {
    *("batch_size", "budget", "candidates", "clip", "columns", "count", "crossed", "dampening", "damping"),
    *("digits", "dimension", "epochs", "eps", "every", "examples", "index", "iterations", "k", "k1", "keep"),
    *("l2", "learning_rates", "lr", "max_iterations", "memory", "momentum", "paraphrases", "passes"),
    *("queries", "questions", "rank", "rate", "rates", "resamples", "sample", "seed", "seeds", "shard"),
    *("smooth", "start", "step", "steps", "subsets", "tolerance", "weight", "weight_decay", "weights"),
}
"""Arguments that may be 3."""
OTHERS = {
    *(
        ("bands", "{}"),
        ("columns", "{}"),
        ("marks", "{}"),
        ("l2", "{}"),
        ("messages", "[]"),
        ("rows", "[]"),
        ("weight_decay", "{}"),
        ("helpful_sign", "-1"),
    ),
    ("function", "function"),  # a class can be called
}


def is_right(argument: str, value: Any) -> bool:
    """Whether an argument may have this value all the same."""
    named = {"None": NOTHING, "'abc'": TEXT, "3": NUMBERS}
    return argument in named.get(said(value), ()) or (argument, said(value)) in OTHERS


def wrong(right: Any) -> Iterator[Any]:
    yield from WRONG
    if not isinstance(right, str | int | float | list | tuple | dict | None):
        yield type(right)


def said(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else "object" if type(value) is object else repr(value)


def names(argument: str, words: str) -> bool:
    return any(name in words for name in (argument, *(other for one, other in ALIASES if one == argument)))


def outcome(call: Callable[..., Any], options: dict[str, Any]) -> str | None:
    """What the call is refused with, None if it isn't."""
    try:
        call(**options)
    except (InputError, uw.datasets.UnknownDataset) as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", calls())
def test_every_argument_is_refused_by_name_or_taken(name: str) -> None:
    call, right = calls()[name]
    assert outcome(call, right) is None
    for argument in right:
        for value in wrong(right[argument]):
            refusal = outcome(call, {**right, argument: value})
            case = f"{name}({argument}={said(value)}): {refusal}"
            assert is_right(argument, value) if refusal is None else names(argument, refusal), case


def test_there_are_enough() -> None:
    assert sum(len(right) for _, right in calls().values()) > 250
    assert len(calls()) > 85
