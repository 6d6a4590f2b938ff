"""The transformer of the experiments on facts, and how its scores come in."""

import torch
from experiments.facts.methods import matrix
from experiments.facts.model import Transformer
from experiments.facts.problem import LOSS, answered

import upweight as uw
from upweight.datasets import synthetic_people


def test_no_word_sees_those_after_it() -> None:
    torch.manual_seed(0)
    model = Transformer(20, 6, width=8, heads=2)
    ids = torch.randint(1, 20, (2, 6))
    other = ids.clone()
    other[:, 4:] = 3
    torch.testing.assert_close(model(ids)[:, :4], model(other)[:, :4])
    assert not torch.allclose(model(ids)[:, 4], model(other)[:, 4])


def test_its_gradients_have_factors_and_questions_are_of_the_answer_alone() -> None:
    people = synthetic_people(4, paraphrases=1, crossed=0, questions=3)
    torch.manual_seed(0)
    model = Transformer(len(people.vocabulary), people.length, width=8, heads=2)
    objective = uw.Objective(model, LOSS, people.tokens())
    assert objective.coverage().parameters("factors") == 1
    asked = people.asked()
    logits = model(asked["input_ids"])
    for row, (question, loss) in enumerate(zip(people.questions, LOSS(model, asked), strict=True)):
        last = len(question.prompt.split())
        expected = -logits[row, last - 1].log_softmax(-1)[asked["input_ids"][row, last]]
        torch.testing.assert_close(loss, expected)
    assert 0 <= answered(model, asked) <= 1
    scores = uw.similarity.gradient_dot(objective, asked)
    assert (matrix(scores) == scores.scores.double().numpy()).all()
