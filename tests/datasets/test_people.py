"""Synthetic people: what is said to entail an answer does, and nothing else does."""

import re

import numpy as np
import pytest
import torch

from upweight.datasets import People, Vocabulary, corrupted, synthetic_people
from upweight.datasets.people import ATTRIBUTES, IGNORED, LEADS, MEETINGS
from upweight.errors import InputError


@pytest.fixture(scope="module")
def people() -> People:
    return synthetic_people(24, seed=3)


def read(text: str, names: tuple[str, ...]) -> set[tuple[str, str, str]]:
    """Facts that a sentence states by its words alone, (name, attribute, value): the templates read backwards."""
    one = "(" + "|".join(names) + ")"
    start = "(?:" + "|".join(lead + " " for lead in LEADS if lead) + ")?"
    opening = "(?:" + "|".join(meeting.format(other=one, fact="") for meeting in MEETINGS) + ")?"
    found = set()
    for attribute, templates in ATTRIBUTES.items():
        for template in templates:
            match = re.fullmatch(start + opening + template.format(name=f"(?P<name>{one})", value=r"(\S+)"), text)
            if match:
                found.add((match["name"], attribute, match.groups()[-1]))
    return found


def test_every_sentence_states_its_fact_and_no_other(people: People) -> None:
    for sentence in people.sentences[::5]:
        fact = sentence.fact
        assert read(sentence.text, people.names) == {(people.names[fact.person], fact.attribute, fact.value)}, (
            sentence.text
        )


def test_what_entails_is_what_states_the_fact_asked_for(people: People) -> None:
    entailed = people.entailed
    assert entailed.shape == (24 * 5, len(people.sentences))
    assert (entailed.sum(1) >= 4).all()
    for asked, row in zip(people.questions, entailed, strict=True):
        name = people.names[asked.fact.person]
        for sentence, says in zip(people.sentences, row, strict=True):
            assert says == (sentence.fact == asked.fact)
            if says:
                assert name in sentence.text
                assert sentence.text.endswith(f" {asked.answer}")


def test_a_person_has_one_value_of_each_kind_and_values_have_several_people(people: People) -> None:
    facts = {asked.fact for asked in people.questions}
    assert len({(fact.person, fact.attribute) for fact in facts}) == len(facts) == 24 * 5
    counts = np.unique([fact.attribute + fact.value for fact in facts], return_counts=True)[1]
    assert counts.min() >= 2
    assert len(set(people.names)) == 24


def test_questions_have_words_of_their_own(people: People) -> None:
    for asked, row in zip(people.questions, people.entailed, strict=True):
        own = [people.sentences[i].text for i in np.flatnonzero(row)]
        straight = [text for text in own if not any(name in text for name in people.names if name not in asked.text)]
        assert straight
        assert not any(text.endswith(asked.text) for text in straight)


def test_crossed_sentences_share_name_and_answer_but_not_the_fact(people: People) -> None:
    misleading = 0
    for asked, row in zip(people.questions, people.entailed, strict=True):
        name = people.names[asked.fact.person]
        misleading += any(
            name in each.text and each.text.endswith(f" {asked.answer}") and not says
            for each, says in zip(people.sentences, row, strict=True)
        )
    assert misleading > 0.9 * len(people.questions)
    plain = synthetic_people(24, crossed=0, seed=3)
    assert len(plain.sentences) == 24 * 5 * 4
    assert (plain.entailed.sum(1) == 4).all()


def test_the_seed_decides() -> None:
    assert synthetic_people(8, seed=1).texts == synthetic_people(8, seed=1).texts
    assert synthetic_people(8, seed=1).texts != synthetic_people(8, seed=2).texts
    assert len(synthetic_people(8, questions=7).questions) == 7


def test_words_become_numbers_and_words_again(people: People) -> None:
    vocabulary, texts = people.vocabulary, people.texts
    ids = vocabulary.encode(texts)
    assert [vocabulary.decode(row) for row in ids] == texts
    assert ids.max() < len(vocabulary)
    assert not (ids == 1).any()
    assert vocabulary.encode(["zebra"], 2).tolist() == [[1, 0]]
    assert Vocabulary.of(["b a", "a c"]).words[2:] == ("a", "b", "c")
    with pytest.raises(InputError, match="length: a text has 2 words"):
        vocabulary.encode(["a b"], 1)


def test_the_answer_alone_is_explained_and_every_word_is_learnt(people: People) -> None:
    learnt, asked = people.tokens(), people.asked()
    assert learnt["input_ids"].shape[1] == asked["input_ids"].shape[1] == people.length
    assert torch.equal(learnt["labels"] == IGNORED, learnt["input_ids"] == 0)
    counts = asked["labels"] != IGNORED
    assert (counts.sum(1) == 1).all()
    words = [people.vocabulary.words[number] for number in asked["labels"][counts].tolist()]
    assert words == [question.answer for question in people.questions]


def test_false_sentences_have_another_value_of_the_same_kind(people: People) -> None:
    texts, false = corrupted(people, 0.25, seed=1)
    assert false.sum() == round(0.25 * len(texts))
    values = {(sentence.fact.attribute, sentence.fact.value) for sentence in people.sentences}
    for text, wrong, sentence in zip(texts, false, people.sentences, strict=True):
        assert wrong == (text != sentence.text)
        head, _, value = text.rpartition(" ")
        assert head == sentence.text.rpartition(" ")[0]
        assert (sentence.fact.attribute, value) in values
    assert corrupted(people, 0.25, seed=1)[0] == texts


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"people": 3}, "people"),
        ({"paraphrases": 6}, "paraphrases"),
        ({"crossed": -1}, "crossed"),
        ({"questions": 10**6}, "questions"),
        ({"seed": -1}, "seed"),
    ],
)
def test_refuses(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        synthetic_people(**options)


def test_refuses_shares_that_are_none(people: People) -> None:
    for share in (0.0, 1.0, 1e-6):
        with pytest.raises(InputError, match="share"):
            corrupted(people, share)
