"""Moving along examples and deciding about them, without a browser."""

from __future__ import annotations

import pytest

from upweight.errors import InputError
from upweight.explore import Contents, Session


@pytest.fixture
def session(contents: Contents) -> Session:
    return Session(contents, "me")


def test_j_and_k_lead_along_a_query_s_evidence(session: Session) -> None:
    session.ask(1)
    walk = [each.position for each in session.evidence]
    assert [session.move(1) for _ in range(3)] == walk[:3]
    assert session.move(-1) == walk[1]
    assert [session.move(-1), session.move(-1)] == [walk[0], None]
    for _ in walk:
        session.move(1)
    assert session.example == walk[-1]
    assert session.move(1) is None


def test_they_lead_along_the_list_as_it_is_filtered(session: Session) -> None:
    columns = session.contents.train_table()
    label = next(column.key for column in columns if column.name == "label")
    found = session.rows("train", 0, 3, [], {label: {"type": "equals", "filter": "bee"}})
    assert found["count"] == int((session.contents.display.train.facts["label"] == "bee").sum())
    assert [session.move(1) for _ in range(3)] == [row["at"] for row in found["rows"]]


def test_before_the_list_they_lead_along_it_whatever_query_was_asked(session: Session) -> None:
    session.ask(1)
    session.move(1)
    order = session.contents.train_order.tolist()
    at = order.index(session.example)
    assert session.move(1, listed=True) == order[at + 1]
    assert session.move(-1, listed=True) == order[at]


def test_queries_one_after_the_other_wrong_first(session: Session) -> None:
    order = session.contents.query_order.tolist()
    assert [session.next_query(1) for _ in range(3)] == order[:3]
    assert session.next_query(-1) == order[1]
    session.ask(order[-1])
    assert session.next_query(1) is None


def test_deciding_is_about_the_example_looked_at(session: Session) -> None:
    with pytest.raises(InputError, match="choose a training example first"):
        session.decide("keep")
    session.look(5)
    made = session.decide("relabel")
    train = session.contents.display.train
    assert (made.position, made.old, made.new, made.who) == (
        5,
        train.facts["label"][5],
        train.facts["suggested"][5],
        "me",
    )
    assert made.new != made.old
    session.look(6)
    session.decide("exclude")
    undone = session.undo()
    assert undone is not None
    assert session.example == 6
    assert set(session.contents.decisions.standing()) == {5}


def test_relabelling_takes_labels_of_the_data_alone(session: Session) -> None:
    sure = next(k for k in range(36) if session.contents.display.train.suggestion(k) is None)
    session.look(sure)
    with pytest.raises(InputError, match="no other label is suggested"):
        session.decide("relabel")
    with pytest.raises(InputError, match="'dog' is no label of these data; give one of ant, bee, cat"):
        session.decide("relabel", "dog")
    label = session.contents.display.train.facts["label"][sure]
    other = next(each for each in ("ant", "bee") if each != label)
    assert session.decide("relabel", other).new == other


def test_the_list_shows_what_was_decided_by_another_page(session: Session) -> None:
    other = Session(Contents(session.contents.place), "you")
    other.look(3)
    other.decide("exclude")
    columns = session.contents.train_table()
    key = next(column.key for column in columns if column.name == "decision")
    found = session.rows("train", 0, 10, [], {key: {"type": "equals", "filter": "exclude"}})
    assert [row["at"] for row in found["rows"]] == [3]


@pytest.mark.parametrize("position", [-1, 36])
def test_what_is_not_there_cannot_be_looked_at(session: Session, position: int) -> None:
    with pytest.raises(InputError, match="there is no training example"):
        session.look(position)
    with pytest.raises(InputError, match="there is no query"):
        session.ask(position)
