"""Results of tasks as stores that the page opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import explored
import upweight as uw
from explored import CLASSES, MARK, M, N, columns, problem
from upweight.errors import InputError
from upweight.explore import Contents, Session, keep
from upweight.stored import Stored

IMAGES = np.linspace(0, 1, N * 16).reshape(N, 4, 4)


def test_label_errors_are_their_own_queries(tmp_path: Path) -> None:
    errors = uw.tasks.label_errors(problem().objective, class_names=CLASSES)
    keep(errors, tmp_path / "kept", images=IMAGES, columns=pd.DataFrame(columns(N)), told=pytest.fail)
    contents = Contents(tmp_path / "kept")
    assert contents.train_order.tolist() == errors.order.tolist()
    assert contents.display.train.fact("suggested", 5) == errors.to_pandas().set_index("position")["suggested"][5]
    assert len(contents.display.queries) == N
    query = contents.asked_about(5)
    assert query == 0  # the planted one is the most suspicious
    against = [each for each in contents.evidence(query, 3) if each.side == "harmful"]
    expected = uw.Influence(problem().objective).attribute(problem().objective.data.take([5])).bottom(3)
    assert [each.position for each in against] == expected.positions[0].tolist()
    assert contents.display.train.pictures[3] == contents.display.queries.pictures[errors.order.tolist().index(3)]
    session = Session(contents, "me")
    session.look(5)
    session.decide("relabel")
    assert Contents(tmp_path / "kept").decisions.standing()[5].new == contents.display.train.suggestion(5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_numbers_that_are_suspicious_are_shown_in_their_own_units_and_can_be_set(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    errors = explored.wrong_numbers(dtype)
    keep(errors, tmp_path / "kept", told=pytest.fail)
    contents = Contents(tmp_path / "kept")
    train = contents.display.train
    assert contents.train_order[0] == explored.WRONG_NUMBER
    assert train.said("value", 4) == "9.25"
    assert train.facts["residual"].tolist() == pytest.approx(
        (train.facts["value"] - train.facts["prediction"]).tolist(), abs=1e-6
    )
    assert float(train.facts["suggested"][4]) == pytest.approx(float(errors.suggested[4]), abs=0.005)
    assert contents.asked_about(4) == 0
    session = Session(contents, "me")
    session.look(4)
    assert session.decide("relabel").new == train.said("suggested", 4)
    assert session.decide("relabel", "1e1").new == "10"
    for odd in ("", "nan", "inf", "1,5"):
        with pytest.raises(InputError, match="is no value of a quantity; give a finite number such as"):
            session.decide("relabel", odd)
    with pytest.raises(InputError, match=r"has the label 9\.25 already"):
        session.decide("relabel", "9.250")


@pytest.mark.parametrize("matrix", [True, False])
def test_an_attribution_in_memory_becomes_a_store(tmp_path: Path, matrix: bool) -> None:
    influence = uw.Influence(problem().objective)
    ids = [f"asked {k}" for k in range(M)]
    found = influence.attribute(problem().queries, query_ids=ids) if matrix else influence.self_influence()
    extra = {"query_columns": columns(M), "query_images": IMAGES[:M]} if matrix else {}
    keep(found, tmp_path / "kept", columns={"label": ["a", "b"] * (N // 2), "odd": [1, *"b" * (N - 1)]}, **extra)
    again = Stored.open(tmp_path / "kept").attribution()
    assert torch.allclose(again.scores.double(), found.scores, rtol=1e-6)
    assert again.quantity == found.quantity
    assert again.query_ids.tolist() == found.query_ids.tolist()
    contents = Contents(tmp_path / "kept")
    assert contents.display.train.fact("label", 1) == "b"
    assert contents.display.train.own["odd"][0] == "1"
    if matrix:
        assert contents.evidence(2, 1)[0].position == int(found.top(1).positions[2, 0])
        assert contents.display.queries.own["city"][2] == MARK
    with pytest.raises(InputError, match="holds a job already"):
        keep(found, tmp_path / "kept")


def test_an_explanation_keeps_what_is_known_of_both_sides(tmp_path: Path) -> None:
    found = uw.tasks.explain(problem().objective, problem().queries, k=2)
    keep(found, tmp_path / "kept")
    contents = Contents(tmp_path / "kept")
    assert contents.display.queries.own["said"].tolist() == list(found.predicted)
    assert contents.display.train.fact("label", 0) == str(found.columns["label"][0])
    assert contents.coloured(0) is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"a": [1, 2]}}, r"columns\['a'\]: give one value for each of the 36 examples"),
        ({"images": IMAGES[:3]}, "images: got 3; give one for each of the 36"),
        ({"query_images": IMAGES[:3]}, "query_images: got 3; give one for each of the 7"),
        ({"columns": "age"}, "columns: give a data frame"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    found = uw.Influence(problem().objective).attribute(problem().queries)
    with pytest.raises(InputError, match=words):
        keep(found, tmp_path / "kept", **options)
    assert not (tmp_path / "kept").exists()


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"result: got int; give what tasks\.label_errors"):
        keep(3, tmp_path / "store")  # type: ignore[arg-type]
