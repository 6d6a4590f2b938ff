"""Sentences about people who don't exist, a small transformer that learned them, and what it knows about them.

    upweight explain examples/people_study.py --query 3
    upweight attribute examples/people_study.py --out scores --report scores.html
    upweight select examples/people_study.py -k 50 --method bm25

Every word is a token, so that the reports show sentences with their words coloured by their share of the score.
"""

import pandas as pd
import torch
from torch import Tensor, nn

import upweight as uw
from upweight.datasets import synthetic_people

WIDTH, STEPS, RATE = 32, 150, 1e-2
torch.manual_seed(0)
people = synthetic_people(8, paraphrases=3, questions=12, seed=1)


class Model(nn.Module):
    """One layer of attention to the words before, and a perceptron; logits of the next word."""

    def __init__(self, words: int, length: int):
        super().__init__()
        self.words, self.places = nn.Embedding(words, WIDTH), nn.Embedding(length, WIDTH)
        self.inward, self.outward = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, words)

    def forward(self, input_ids: Tensor) -> Tensor:
        """``[batch, time, words]``."""
        time = input_ids.shape[1]
        x = self.words(input_ids) + self.places.weight[:time]
        q, k, v = self.inward(x).chunk(3, -1)
        later = torch.ones(time, time, dtype=torch.bool).triu(1)
        weights = (q @ k.transpose(1, 2) * WIDTH**-0.5).masked_fill(later, -torch.inf).softmax(-1)
        x = x + self.outward(weights @ v)
        return self.head(x + self.down(nn.functional.gelu(self.up(x))))


def trained(tokens: dict[str, Tensor]) -> nn.Module:
    """By Adam on all sentences at once."""
    model, loss = Model(len(people.vocabulary), people.length), uw.losses.CausalLM()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(model, tokens).mean().backward()
        optimizer.step()
    return model.eval()


def known(texts: list[str], facts: list) -> pd.DataFrame:
    """What is shown of sentences and questions beside their scores."""
    return pd.DataFrame({"text": texts, "about": [people.names[fact.person] for fact in facts],
                         "fact": [fact.attribute for fact in facts]})  # fmt: skip


def study() -> uw.Study:
    """The trained model, questions that training sentences answer in other words, and what is shown of both."""
    tokens, questions = people.tokens(), [question.text for question in people.questions]
    ids = [f"sentence-{number}" for number in range(len(people.texts))]
    objective = uw.Objective(trained(tokens), uw.losses.CausalLM(), tokens, l2=1e-3, ids=ids)
    return uw.Study(
        objective,
        people.asked(),
        query_ids=[f"question-{number}" for number in range(len(questions))],
        table=known(people.texts, [sentence.fact for sentence in people.sentences]),
        query_table=known(questions, [question.fact for question in people.questions]),
        tokens=[text.split() for text in people.texts],
        query_tokens=[text.split() for text in questions],
    )
