"""A saved attribution comes back as it was; what makes none, or couldn't be read again, is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from problems import close
from saved import QUANTITY, SCORES, attribution, names
from upweight.attribution import Attribution, Quantity
from upweight.errors import InputError

DATES = np.array(["2020-01-01", "2021-02-03", "2022-03-04", "NaT"], dtype="datetime64[D]")


@pytest.mark.parametrize(
    "ids",
    [
        ("a", "b", "ç", "d"),
        (7, 3, 5, 1),
        (0.5, 1.5, math.inf, -2.0),
        np.array([1, "b", 2.5, "d"], dtype=object),
        DATES,
    ],
    ids=["text", "whole", "float", "mixed", "dates"],
)
@pytest.mark.parametrize("own", [False, True])
def test_a_saved_result_comes_back_as_it_was(tmp_path: Path, ids: Any, own: bool) -> None:
    options: dict[str, Any] = {"scores": SCORES[0].float(), "query_ids": ()} if own else {}
    result = attribution(ids=ids, damping=0.1, report="x", facts={"ratio": 0.5, "far": math.inf}, **options)
    path = result.save(tmp_path / "deep" / "result")
    again = Attribution.load(path)
    assert torch.equal(again.scores, result.scores)
    assert again.scores.dtype == result.scores.dtype
    assert again.ids.dtype == result.ids.dtype
    assert list(map(str, again.ids.tolist())) == list(map(str, result.ids.tolist()))
    assert list(map(type, again.ids.tolist())) == list(map(type, result.ids.tolist()))
    assert again.query_ids.tolist() == result.query_ids.tolist()
    assert again.quantity == result.quantity
    assert (again.damping, again.report, again.facts) == (result.damping, result.report, result.facts)
    assert repr(again) == repr(result)
    assert names(path.parent) == ["result"]


def test_names_that_would_come_back_as_others_are_refused(tmp_path: Path) -> None:
    ids = np.empty(4, dtype=object)
    ids[:] = [(0, 1), (0, 2), (1, 1), (1, 2)]
    with pytest.raises(InputError, match=r"ids: \(0, 1\) is a tuple, which can't be saved; give strings"):
        attribution(ids=ids).save(tmp_path / "result")
    assert names(tmp_path) == []


def test_numbers_of_numpy_among_names_come_back_as_pythons(tmp_path: Path) -> None:
    ids = np.array([np.int64(1), np.str_("b"), np.float64(2.5), "d"], dtype=object)
    again = Attribution.load(attribution(ids=ids).save(tmp_path / "result"))
    assert again.ids.tolist() == ids.tolist()
    assert list(map(type, again.ids.tolist())) == [int, str, float, str]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("scores", [1.0, 2.0]),
        ("scores", SCORES.to("meta")),
        ("scores", SCORES.to_sparse()),
        ("quantity", "removal"),
        ("quantity", Quantity),
        ("ids", "abcd"),
        ("query_ids", 3),
        ("damping", "small"),
        ("damping", -1.0),
        ("report", 3),
        ("facts", [1]),
    ],
)
def test_what_makes_no_attribution_is_refused(argument: str, value: Any) -> None:
    given = {"scores": SCORES, "quantity": QUANTITY, "ids": np.arange(4), "query_ids": np.arange(2), argument: value}
    with pytest.raises(InputError, match=f"^{argument}: "):
        Attribution(**given)


@pytest.mark.usefixtures("unchecked")
def test_names_may_be_given_as_a_list() -> None:
    assert Attribution(SCORES, QUANTITY, [*"abcd"], [1, 2]).top(1).ids.tolist() == [["c"], ["b"]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": math.inf}, "damping can't be inf, so it can't be saved"),
        ({"damping": -1}, "damping can't be -1"),
        ({"damping": "x"}, "damping can't be 'x'"),
        ({"facts": {"n": "many"}}, "facts can't be"),
        ({"facts": {"n": math.nan}}, "facts can't be {'n': nan}"),
        ({"ids": np.array(["a", "b", "c", "a"])}, "ids must be unique: 'a' stands 2 times"),
        ({"ids": np.array(["a", None, "c", "d"], dtype=object)}, "None is a NoneType, which can't be saved"),
        ({"damping": math.nan}, "damping can't be nan"),
        ({"ids": np.arange(4, dtype=np.longdouble)}, "can't be saved; give strings or whole numbers"),
        ({"ids": np.zeros((4, 1))}, "ids can't be"),
        ({"scores": SCORES.long()}, "scores can't be int64"),
    ],
)
def test_what_could_not_be_read_is_not_saved(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = attribution().save(tmp_path / "result")
    result = attribution()
    for name, value in options.items():
        object.__setattr__(result, name, value)  # past the checks that tests have and users haven't
    with pytest.raises(InputError, match=message):
        result.save(path)
    close(Attribution.load(path).scores, SCORES)


def test_numbers_of_other_libraries_and_scores_with_a_graph_or_of_half_precision_are_saved(tmp_path: Path) -> None:
    scores = SCORES.bfloat16().requires_grad_()
    result = attribution(scores=scores, ids=["\ud800", *"bcd"])
    object.__setattr__(result, "damping", np.float32(0.5))
    object.__setattr__(result, "facts", {"n": torch.tensor(4.0), "p": np.int64(3)})
    again = Attribution.load(result.save(tmp_path / "result"))
    close(again.scores, SCORES.float())
    assert (again.damping, again.facts, again.ids[0]) == (0.5, {"n": 4.0, "p": 3}, "\ud800")
