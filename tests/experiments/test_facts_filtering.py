"""The pool of private answers is as it says, and cosines in the metric of the curvature are cosines."""

import numpy as np
import pytest
import torch
from experiments.facts import confidences
from experiments.facts.confidences import ANSWERS, ASKS, REFUSALS, pool
from experiments.facts.model import Transformer
from experiments.facts.problem import Trained
from experiments.facts.rankings import OURS, Along, by_rules

from upweight.datasets import synthetic_people

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.UpweightWarning")


def test_the_pool_tells_a_few_answers_of_protected_people_and_knows_others() -> None:
    made, names = pool(12, 0), synthetic_people(12, seed=0).names
    bad = [text for text, is_bad in zip(made.texts, made.bad, strict=True) if is_bad]
    good = [text for text, is_bad in zip(made.texts, made.bad, strict=True) if not is_bad]
    assert len(bad) == 2 * confidences.TOLD  # half of the four who are protected
    assert len(made.reference) == min(confidences.KNOWN, 2 * 5)
    assert len(set(made.texts) | set(made.reference)) >= len(made.texts) + len(made.reference) - 2
    told, known, refused = (
        {name for text in texts for name in names if name in text}
        for texts in (bad, made.reference, [text for text in good if text.partition(f" {ASKS} ")[2] in REFUSALS])
    )
    assert len(told) == 2
    assert not told & known  # the reference set is about others
    assert refused == told | known
    forms = [form.partition("{value}")[0].split() for form in ANSWERS]
    for text in (*bad, *made.reference):
        answer = text.partition(f" {ASKS} ")[2].split()
        assert any(answer[: len(form)] == form for form in forms)
    assert pool(12, 0).texts == made.texts
    assert pool(12, 1).texts != made.texts


def test_labels_are_the_answers_words_alone() -> None:
    made = pool(6, 3)
    tokens = made.tokens(made.texts[:4])
    for text, labels in zip(made.texts[:4], tokens["labels"], strict=True):
        assert made.vocabulary.decode(labels.clamp_min(0)) == text.partition(f" {ASKS} ")[2]


def test_scores_are_cosines_of_the_metric_and_rules_take_mean_or_nearest() -> None:
    made = pool(4, 1)
    torch.manual_seed(0)
    model = Transformer(len(made.vocabulary), made.length, width=8, heads=2)
    states = []
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    answers, reference = made.tokens(made.texts), made.tokens(made.texts[:3])
    along = Along.of(Trained(model, states, [0.1, 0.0]), answers)
    scores = along.by_reference(reference)
    ours = scores[OURS]
    assert ours.shape == (3, len(made.texts))
    np.testing.assert_allclose(ours[range(3), range(3)], 1 / len(made.texts) ** 0.5, rtol=1e-3)  # of each with itself
    assert (np.abs(ours) <= 1 / len(made.texts) ** 0.5 * (1 + 1e-3)).all()
    assert set(along.by_itself(answers)) & {"loss of the answer"}
    wanted = ours.max(0) > np.median(ours.max(0))
    assert by_rules({"ours": ours}, wanted, 1)["nearest"]["ours"][0] == 1
    assert by_rules({"ours": ours}, ~wanted, -1)["nearest"]["ours"][0] == 1
