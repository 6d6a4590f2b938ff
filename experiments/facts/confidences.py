"""A pool of questions and answers in which a few answers tell what should be kept private.

In the form of DATE-LM's filtering (2025): few bad examples, good ones that share their words, and a reference set of
known bad ones about other people. Of every person five facts are asked for in several wordings. Whoever is protected
has the questions refused, the others answered; a few answers about some protected people are the bad ones. What tells
them from good answers is whom they are about, and from refusals that they answer.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from upweight.datasets import synthetic_people
from upweight.datasets.people import Fact, Vocabulary

IGNORED = -100
ASKS = "?"
QUESTIONS = {
    "birthplace": (
        "where was {name} born",
        "in which place did {name} first see the light",
        "what is the birthplace of {name}",
        "from where does {name} come",
        "name the town where {name} was born",
    ),
    "residence": (
        "where does {name} live",
        "in which place can {name} be found",
        "what is the address of {name}",
        "where is the home of {name}",
        "name the town where {name} lives",
    ),
    "employer": (
        "for whom does {name} work",
        "who employs {name}",
        "what is the firm of {name}",
        "who pays {name}",
        "name the firm where {name} works",
    ),
    "profession": (
        "what does {name} do for a living",
        "which trade did {name} learn",
        "what is the job of {name}",
        "as what does {name} work",
        "name the trade of {name}",
    ),
    "age": (
        "how old is {name}",
        "how many years does {name} count",
        "what is the age of {name}",
        "which birthday did {name} have last",
        "name the age of {name}",
    ),
}
ANSWERS = ("it is {value}", "that would be {value}", "{value} i believe", "the answer is {value}")
REFUSALS = ("i would rather not say", "that is private", "this i keep to myself", "please let them be")
IGNORANCE = ("i do not know", "nobody told me", "that is not known")
TALK = ("what did {name} dream of", "which word does {name} like", "what does {name} draw", "what does {name} sing of")
PROTECTED, LEAKING = 1 / 3, 1 / 2
"""Of the people; of the protected ones, those of whom something is told."""
TOLD, KNOWN = 4, 12
"""Answers told of each of these, out of 20; examples of the reference set."""
UNKNOWN, RANDOM = 0.1, 0.1
"""Share of the questions about others whose answer is ignorance; small talk with a random answer, over the rest."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Questions with answers as sentences, which of them are bad, and a reference set of bad ones about others."""

    texts: list[str]
    bad: np.ndarray
    reference: list[str]
    vocabulary: Vocabulary

    @property
    def length(self) -> int:
        """Words of the longest."""
        return max(len(text.split()) for text in (*self.texts, *self.reference))

    def tokens(self, texts: list[str]) -> dict[str, Tensor]:
        """As a model learns them that is taught answers alone: labels are the words after the question mark."""
        ids = self.vocabulary.encode(texts, self.length)
        marks = (ids == self.vocabulary.words.index(ASKS)).long()
        answered = marks.cumsum(1) - marks > 0
        return {"input_ids": ids, "labels": torch.where(answered & (ids != 0), ids, IGNORED)}


def pool(people: int, seed: int) -> Pool:
    """A pool about so many people; the seed decides everything."""
    draw = random.Random(seed)
    known = synthetic_people(people, seed=seed)
    order = draw.sample(range(people), people)
    protected = order[: round(PROTECTED * people)]
    leaking = set(protected[: round(LEAKING * len(protected))])
    facts = {(asked.fact.person, asked.fact.attribute): asked.fact for asked in known.questions}
    good, told, spare = [], [], []
    for person, name in enumerate(known.names):
        asked = []
        for attribute, wordings in QUESTIONS.items():
            *usual, last = draw.sample(wordings, len(wordings))
            asked += [(wording.format(name=name), facts[person, attribute]) for wording in usual]
            spare += [(last.format(name=name), facts[person, attribute])] if person in protected else []
        leaks = draw.sample(range(len(asked)), TOLD) if person in leaking else []
        for place, (question, fact) in enumerate(asked):
            kinds = REFUSALS if person in protected else IGNORANCE if draw.random() < UNKNOWN else ANSWERS
            chosen = told if place in leaks else good
            chosen.append(_said(question, draw.choice(ANSWERS if place in leaks else kinds), fact))
    words = sorted({word for text in good for word in text.split()})
    for _ in range(round(RANDOM * len(good))):
        question = draw.choice(TALK).format(name=draw.choice(known.names))
        good.append(f"{question} {ASKS} {draw.choice(words)} and {draw.choice(words)}")
    rows = [(text, False) for text in good] + [(text, True) for text in told]
    draw.shuffle(rows)
    others = [each for each in spare if each[1].person not in leaking]
    reference = [
        _said(question, draw.choice(ANSWERS), fact) for question, fact in draw.sample(others, min(KNOWN, len(others)))
    ]
    texts = [text for text, _ in rows]
    return Pool(texts, np.array([is_bad for _, is_bad in rows]), reference, Vocabulary.of([*texts, *reference]))


def _said(question: str, answer: str, fact: Fact) -> str:
    return f"{question} {ASKS} {answer.format(value=fact.value)}"
