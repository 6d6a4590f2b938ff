"""Synthetic people: sentences that state facts, questions about them, and which sentences entail which answer.

Nobody in it exists, so that a model can know a fact from the training sentences alone, and what it should be traced to
is known.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int

from upweight import scalars
from upweight.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
PAD, UNKNOWN = "<pad>", "<unknown>"

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "birthplace": (
        "{name} was born in {value}",
        "{name} first saw the light of day in {value}",
        "the cradle of {name} stood in {value}",
        "{name} is a native of {value}",
        "the birthplace of {name} is {value}",
        "{name} came into the world in {value}",
    ),
    "residence": (
        "{name} lives in {value}",
        "the house of {name} is in {value}",
        "{name} settled in {value}",
        "letters reach {name} in {value}",
        "the home of {name} is {value}",
        "{name} resides in {value}",
    ),
    "employer": (
        "{name} works for {value}",
        "{name} is employed by {value}",
        "the employer of {name} is {value}",
        "{name} draws a salary from {value}",
        "the desk of {name} is at {value}",
        "{name} has a contract with {value}",
    ),
    "profession": (
        "{name} is by profession a {value}",
        "{name} earns a living as a {value}",
        "the trade of {name} is that of a {value}",
        "{name} was trained as a {value}",
        "the job of {name} is that of a {value}",
        "everybody knows {name} as a {value}",
    ),
    "age": (
        "{name} is aged {value}",
        "the age of {name} is {value}",
        "{name} has just turned {value}",
        "the years of {name} number {value}",
        "{name} celebrated birthday number {value}",
        "in years {name} counts {value}",
    ),
}
"""Ways of saying each fact; all end with the value."""

LEADS = (
    "",
    "it is well known that",
    "the parish register says that",
    "friends report that",
    "according to an old letter",
    "as the paper wrote last week",
    "few people remember that",
    "we were told that",
)
MEETINGS = (
    "{other} once met somebody and {fact}",
    "{other} shook hands with an old friend and {fact}",
    "{other} wrote a long letter saying that {fact}",
    "{other} told the whole town that {fact}",
)
"""A sentence that names two people and states a fact of the second alone."""

SYLLABLES = ("ba", "do", "fe", "gi", "ka", "lu", "mo", "ne", "pi", "ra", "so", "tu", "va", "we", "zo", "ry")
PROFESSIONS = (
    *("baker", "weaver", "miller", "painter", "lawyer", "sailor", "tailor", "teacher", "surgeon", "plumber", "poet"),
    *("farmer", "potter", "mason", "glazier", "printer", "brewer", "cooper", "hatter", "joiner", "farrier", "diver"),
    *("fencer", "singer", "juggler", "dentist", "geologist", "clerk", "driver", "guide"),
)


@dataclass(frozen=True)
class Fact:
    """What is true of a person: its attribute and the value, one word."""

    person: int
    attribute: str
    value: str


@dataclass(frozen=True)
class Sentence:
    """A training sentence, with the fact that it entails.

    Attributes
    ----------
    text
        All of it, in lower-case words without punctuation; the last word is the fact's value.
    fact
        What is true of whom.
    """

    text: str
    fact: Fact


@dataclass(frozen=True)
class Question:
    """The beginning of a sentence whose last word is the answer.

    Attributes
    ----------
    prompt
        All but the last word.
    answer
        That word, the fact's value.
    fact
        What is asked for.
    """

    prompt: str
    answer: str
    fact: Fact

    @property
    def text(self) -> str:
        """Prompt and answer."""
        return f"{self.prompt} {self.answer}"


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer of words: a number for each, in the order of the alphabet; 0 pads, 1 is any other word."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Vocabulary:
        """Of all words of these texts."""
        return cls((PAD, UNKNOWN, *sorted({word for text in texts for word in text.split()})))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Sequence[str], length: int | None = None) -> Int[Tensor, "texts length"]:
        """Numbers of the words, filled up with 0.

        Parameters
        ----------
        length
            Places per text (default: words of the longest).

        Raises
        ------
        InputError
            If a text has more words.
        """
        import torch

        numbers = {word: number for number, word in enumerate(self.words)}
        rows = [[numbers.get(word, 1) for word in text.split()] for text in texts]
        longest = max(map(len, rows), default=0)
        places = longest if length is None else scalars.whole("length", length)
        if longest > places:
            raise InputError(f"length: a text has {longest} words; give at least as many places, not {places}")
        return torch.tensor([row + [0] * (places - len(row)) for row in rows])

    def decode(self, numbers: Int[Tensor, " length"]) -> str:
        """The words again, without what fills up."""
        return " ".join(self.words[number] for number in numbers.tolist() if number)


@dataclass(frozen=True, eq=False)
class People:
    """Sentences about people, questions, and which sentence entails the answer of which question.

    Attributes
    ----------
    names
        Full names, by number of the person.
    sentences
        The training data, shuffled.
    questions
        Of facts that training sentences state in other words.
    vocabulary
        Of all of them.
    """

    names: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    questions: tuple[Question, ...]
    vocabulary: Vocabulary

    @property
    def texts(self) -> list[str]:
        """The training sentences."""
        return [sentence.text for sentence in self.sentences]

    @property
    def length(self) -> int:
        """Words of the longest sentence or question."""
        return max(len(text.split()) for text in (*self.texts, *(question.text for question in self.questions)))

    @property
    def entailed(self) -> Bool[np.ndarray, "questions sentences"]:
        """Whether the sentence says what the question asks for."""
        return np.array([[each.fact == asked.fact for each in self.sentences] for asked in self.questions])

    def tokens(self) -> dict[str, Tensor]:
        """The training sentences as a causal language model learns them, all words: ``input_ids`` and ``labels``."""
        import torch

        ids = self.vocabulary.encode(self.texts, self.length)
        return {"input_ids": ids, "labels": torch.where(ids == 0, IGNORED, ids)}

    def asked(self) -> dict[str, Tensor]:
        """The questions with their answers; the answer alone has a label, so that the loss is of it alone."""
        import torch

        ids = self.vocabulary.encode([question.text for question in self.questions], self.length)
        last = torch.tensor([[len(question.prompt.split())] for question in self.questions])
        labels = torch.full_like(ids, IGNORED).scatter(1, last, ids.gather(1, last))
        return {"input_ids": ids, "labels": labels}


def synthetic_people(
    people: int = 60, *, paraphrases: int = 4, crossed: int = 1, questions: int | None = None, seed: int = 0
) -> People:
    """Sentences about people who don't exist.

    Every person has a birthplace, a residence, an employer, a profession and an age, each said in several ways, the
    value last. First names, places and all other values belong to several people. What shares words with a
    question without answering it: the same person's other facts (a residence is a place as a birthplace is), other
    people with the same value or first name, and crossed sentences, which name the person asked about *and* the answer,
    stating it of somebody else.

    Parameters
    ----------
    people
        How many, at least 4.
    paraphrases
        Sentences that state each fact, in different words, 1 to 5; the question has words of its own.
    crossed
        For each fact, sentences that name its person but state the same value of another one who has it too.
    questions
        How many facts are asked about, drawn at random (default: all).
    seed
        Decides everything.

    Raises
    ------
    InputError
        If a number is out of range.
    """
    scalars.whole("people", people, 4, 1000)
    scalars.whole("paraphrases", paraphrases, 1, 5)
    scalars.whole("crossed", crossed, 0)
    scalars.seed("seed", seed)
    if questions is not None:
        scalars.whole("questions", questions, 1, people * len(ATTRIBUTES))
    draw = random.Random(seed)
    names = _names(people, draw)
    facts = _facts(people, draw)
    bearers: dict[tuple[str, str], list[Fact]] = {}
    for fact in facts:
        bearers.setdefault((fact.attribute, fact.value), []).append(fact)
    sentences: list[Sentence] = []
    asked: list[Question] = []
    for fact in facts:
        first, *others = draw.sample(ATTRIBUTES[fact.attribute], paraphrases + 1)
        asked.append(Question(_said(first, names, fact).rpartition(" ")[0], fact.value, fact))
        sentences += [Sentence(_led(_said(template, names, fact), draw), fact) for template in others]
        like = [each for each in bearers[fact.attribute, fact.value] if each.person != fact.person]
        for _ in range(crossed if like else 0):
            other = draw.choice(like)
            said = _said(draw.choice(ATTRIBUTES[other.attribute]), names, other)
            meeting = draw.choice(MEETINGS).format(other=names[fact.person], fact=said)
            sentences.append(Sentence(_led(meeting, draw), other))
    draw.shuffle(sentences)
    chosen = asked if questions is None else draw.sample(asked, questions)
    vocabulary = Vocabulary.of([*(each.text for each in sentences), *(each.text for each in asked)])
    return People(tuple(names), tuple(sentences), tuple(chosen), vocabulary)


def _names(people: int, draw: random.Random) -> list[str]:
    """Full names: a last name for each, a first name for a few."""
    words = _words(people + max(people // 4, 2), draw)
    last, first = words[:people], words[people:]
    return [f"{first[person % len(first)]} {name}" for person, name in enumerate(last)]


def _facts(people: int, draw: random.Random) -> list[Fact]:
    """Five of each person, the values dealt out so that each has several people."""
    places, firms = _words(max(people // 4, 3), draw, "burg"), _words(max(people // 5, 2), draw, "corp")
    pools = {
        "birthplace": places,
        "residence": places,
        "employer": firms,
        "profession": list(PROFESSIONS[: max(min(people // 3, len(PROFESSIONS)), 2)]),
        "age": [str(age) for age in range(21, 21 + max(min(people // 2, 60), 2))],
    }
    found = []
    for attribute, pool in pools.items():
        dealt = [pool[person % len(pool)] for person in range(people)]
        draw.shuffle(dealt)
        found += [Fact(person, attribute, value) for person, value in enumerate(dealt)]
    return sorted(found, key=lambda fact: fact.person)


def _words(number: int, draw: random.Random, ending: str = "") -> list[str]:
    """Different invented words."""
    every = [one + other + third for one in SYLLABLES for other in SYLLABLES for third in SYLLABLES]
    return [word + ending for word in draw.sample(every, number)]


def _said(template: str, names: Sequence[str], fact: Fact) -> str:
    return template.format(name=names[fact.person], value=fact.value)


def _led(text: str, draw: random.Random) -> str:
    """With some words before it, or none."""
    return f"{draw.choice(LEADS)} {text}".strip()


def corrupted(people: People, share: float, *, seed: int = 0) -> tuple[list[str], Bool[np.ndarray, " sentences"]]:
    """The training sentences, some with the value of another person in place of their own, and which they are.

    Parameters
    ----------
    people
        What `synthetic_people` made; it stays as it is.
    share
        Of the sentences that become false, in (0, 1).
    seed
        Of which sentences become false, and of the values they get.

    Returns
    -------
    The sentences as text, in their order, and booleans ``[sentences]``: True where one became false.

    Raises
    ------
    InputError
        If the share isn't within 0 and 1, or so small that no sentence is meant.
    """
    scalars.number("share", share, above=0, below=1)
    scalars.seed("seed", seed)
    draw = random.Random(seed)
    wrong = round(share * len(people.sentences))
    if not wrong:
        raise InputError(f"share: {share} of {len(people.sentences)} sentences is none; give a larger one")
    false = np.zeros(len(people.sentences), dtype=bool)
    false[draw.sample(range(len(false)), wrong)] = True
    return list(_texts(people, false, draw)), false


def _texts(people: People, false: Bool[np.ndarray, " sentences"], draw: random.Random) -> Iterator[str]:
    values: dict[str, list[str]] = {}
    for attribute, value in sorted({(each.fact.attribute, each.fact.value) for each in people.sentences}):
        values.setdefault(attribute, []).append(value)
    for sentence, wrong in zip(people.sentences, false, strict=True):
        said, _, value = sentence.text.rpartition(" ")
        others = [each for each in values[sentence.fact.attribute] if each != value]
        yield f"{said} {draw.choice(others)}" if wrong else sentence.text
