"""What is shown of a store, against the model itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import explored
import upweight as uw
from upweight.errors import InputError
from upweight.explore import Contents
from upweight.explore.examples import plain
from upweight.predictions import predictions


@pytest.fixture(scope="module")
def seen(shown: Path) -> Contents:
    return Contents(shown)


@pytest.fixture(scope="module")
def scores() -> torch.Tensor:
    one = explored.problem()
    return uw.Influence(one.objective).attribute(one.queries).scores


@pytest.mark.parametrize("query", [0, 4])
def test_the_evidence_of_a_query_is_its_largest_and_smallest_scores(
    seen: Contents, scores: torch.Tensor, query: int
) -> None:
    found = seen.evidence(query, 3)
    order = scores[query].argsort(descending=True)
    assert [each.position for each in found] == [*order[:3].tolist(), *order.flip(0)[:3].tolist()]
    assert [each.side for each in found] == ["helpful"] * 3 + ["harmful"] * 3
    assert [each.score for each in found] == pytest.approx(scores[query][[each.position for each in found]].tolist())


def test_what_an_example_helps_and_harms(seen: Contents, scores: torch.Tensor) -> None:
    found = seen.effects(5, 4)
    helped = [each for each in found if each.side == "helpful"]
    assert [each.position for each in helped] == [k for k in scores[:, 5].argsort(descending=True).tolist() if scores[k, 5] > 0][:4]  # noqa: E501  # fmt: skip
    assert all(each.score < 0 for each in found if each.side == "harmful")
    assert {each.position for each in found} <= set(range(explored.M))


def test_of_a_store_of_few_scores_the_same_where_they_are_kept(tmp_path: Path, seen: Contents) -> None:
    few = explored.contents(tmp_path / "few", top_k=6)
    assert few.evidence(2, 50)[:6] == seen.evidence(2, 6)[:6]
    every = {(each.position, each.side) for each in seen.effects(5, explored.M)}
    some = {(each.position, each.side) for each in few.effects(5, explored.M)}
    assert some <= every
    assert some == {
        (query, each.side) for query in range(explored.M) for each in few.evidence(query, 6) if each.position == 5
    }


def test_the_nearest_have_the_largest_cosines_of_gradients(seen: Contents) -> None:
    objective = explored.problem().objective
    x, y = objective.data.take(range(explored.N))
    residuals = objective.outputs().softmax(1) - torch.nn.functional.one_hot(y, 3)
    rows = torch.einsum("nc,nd->ncd", residuals, torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)).flatten(1)
    cosines = torch.nn.functional.cosine_similarity(rows[7][None], rows, dim=1)
    cosines[7] = -2
    found = seen.nearest(7, 5)
    assert [cosine for _, cosine in found] == pytest.approx(cosines.topk(5).values.tolist(), abs=0.02)  # kept in int8
    assert found[0][0] == int(cosines.argmax())


def test_labels_predictions_and_losses_are_the_model_s(seen: Contents) -> None:
    one = explored.problem()
    for examples, said in (
        (seen.display.train, predictions(one.objective)),
        (seen.display.queries, predictions(one.objective, one.queries)),
    ):
        assert examples.facts["label"].tolist() == [explored.CLASSES[k] for k in said.given.tolist()]
        assert examples.facts["prediction"].tolist() == [explored.CLASSES[k] for k in said.predicted.tolist()]
        assert examples.facts["loss"] == pytest.approx(said.losses.numpy())
        assert (examples.facts["wrong"] == said.wrong.numpy()).all()
    own = uw.Influence(one.objective).self_influence().scores
    assert seen.display.train.facts["self-influence"] == pytest.approx(own.numpy())
    assert seen.train_order[0] == 5  # whose label is wrong


def test_columns_and_pictures_come_back_as_they_were(seen: Contents) -> None:
    for examples, count in ((seen.display.train, explored.N), (seen.display.queries, explored.M)):
        for name, values in explored.columns(count).items():
            assert [plain(each) for each in examples.own[name]] == [plain(each) for each in values]
        assert len(examples.pictures) == count
        assert examples.pictures[count - 1].startswith(b"\x89PNG")
    assert seen.display.train.texts == ["words"]


def test_a_store_with_scores_alone_shows_positions(tmp_path: Path) -> None:
    one = explored.problem()
    labels = np.array(["ant"] * explored.N)
    uw.Influence(one.objective).attribute(
        one.queries, store=tmp_path, columns={"label": labels, "age": np.arange(explored.N)}
    )
    bare = Contents(tmp_path)
    assert bare.is_bare
    assert set(bare.display.train.facts) == {"label"}
    assert set(bare.display.train.own) == {"age"}
    assert len(bare.evidence(0, 2)) == 4
    assert not bare.has_neighbours
    assert bare.nearest(0, 3) == []
    assert bare.query_order.tolist() == list(range(explored.M))


def test_a_store_of_self_influence_has_no_queries(tmp_path: Path) -> None:
    uw.Influence(explored.problem().objective).self_influence(store=tmp_path)
    own = Contents(tmp_path)
    assert len(own.display.queries) == 0
    assert own.effects(3, 5) == []


def test_a_display_of_other_examples_is_refused(place: Path, tmp_path: Path) -> None:
    x, y = explored.problem().objective.data.take(range(20))
    uw.Influence(explored.problem().objective.replace(data=(x, y))).attribute(
        explored.problem().queries, store=tmp_path / "b"
    )
    shutil.copy(place / "display.json", tmp_path / "b" / "display.json")
    with pytest.raises(InputError, match="of other training examples"):
        Contents(tmp_path / "b")


def test_a_cut_display_is_refused(place: Path) -> None:
    (place / "display.json").write_bytes((place / "display.json").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"display\.json .* was cut or altered"):
        Contents(place)


def test_scores_in_words(seen: Contents, scores: torch.Tensor) -> None:
    best = seen.evidence(0, 1)[0]
    assert seen.sentence(best) == f"helpful: {best.score:+.3g} nats. Without it the query's loss would rise by {best.score:.3g}"  # noqa: E501  # fmt: skip
    assert "predicted change of the query's loss" in seen.meaning()


def test_no_file_of_the_scores_is_touched_by_deciding(place: Path) -> None:
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    contents = Contents(place)
    contents.decisions.decide(1, "keep", id="1", old="ant")
    contents.decisions.compact()
    after = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert {path.name for path in after.keys() - before.keys()} == {"decisions.parquet"}
    assert {path.name for path, content in before.items() if after.get(path) != content} <= {"lock"}
