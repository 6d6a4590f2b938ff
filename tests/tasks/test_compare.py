"""Influence against distance, and two models compared: what a kernel machine and a feature model learn from."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE
from upweight.errors import InputError
from upweight.tasks import by_distance, compare_models


@cache
def data() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Classes told apart by the first of forty numbers; the others are noise that distance sees all the same."""
    generator = torch.Generator().manual_seed(0)
    labels, query_labels = torch.arange(60) % 2, torch.arange(8) % 2
    inputs, query_inputs = (torch.randn(n, 40, generator=generator, dtype=DOUBLE) for n in (60, 8))
    inputs[:, 0] += 4.0 * labels - 2
    query_inputs[:, 0] += 4.0 * query_labels - 2
    return inputs, labels, query_inputs, query_labels


@cache
def linear() -> tuple[uw.Objective, tuple[Tensor, Tensor]]:
    """On the number that matters alone."""
    inputs, labels, query_inputs, query_labels = data()
    model = nn.Linear(1, 1, dtype=DOUBLE)
    objective = uw.Objective(model, uw.losses.BinaryLogistic(), (inputs[:, :1], labels), l2=0.01)
    return uw.retraining.fit(objective), (query_inputs[:, :1], query_labels)


@cache
def kernel() -> tuple[uw.Objective, tuple[Tensor, Tensor]]:
    """A narrow RBF machine by its kernel's Cholesky features, at its smoothed optimum."""
    inputs, labels, query_inputs, query_labels = data()
    gram, rows = (torch.exp(-0.05 * torch.cdist(x, inputs) ** 2) for x in (inputs, query_inputs))
    factor = torch.linalg.cholesky(gram + 1e-9 * torch.eye(60))
    features = torch.linalg.solve_triangular(factor, rows.mT, upper=False).mT
    objective = uw.Objective(nn.Linear(60, 1, bias=False, dtype=DOUBLE), uw.losses.SmoothHinge(0.1), (factor, labels))
    return uw.retraining.fit(objective.replace(l2=0.01)), (features, query_labels)


def test_figures_are_those_of_scipy_and_of_counting() -> None:
    objective, queries = linear()
    inputs, labels, query_inputs, query_labels = data()
    attribution = uw.Influence(objective).attribute(queries)
    found = by_distance(attribution, inputs, query_inputs, labels, query_labels)
    for row in range(len(query_labels)):
        scores = attribution.scores[row].numpy()
        distance = np.linalg.norm((inputs - query_inputs[row]).numpy(), axis=1)
        assert found.correlation()[row] == pytest.approx(stats.spearmanr(abs(scores), distance).statistic, abs=1e-5)
        assert found.correlation(of_size=False)[row] == pytest.approx(
            stats.spearmanr(scores, distance).statistic, abs=1e-5
        )
        some = abs(scores) > 1e-6 * abs(scores).max()
        among = stats.spearmanr(abs(scores[some]), distance[some]).statistic
        assert found.correlation(among="influential")[row] == pytest.approx(among, abs=1e-5)
        same = (labels == query_labels[row]).numpy()
        helpful = np.argsort(-scores)[:7]
        helpful = helpful[scores[helpful] > 0]
        assert found.same_class_share(7)[row] == pytest.approx(same[helpful].mean())
        assert found.same_class_weight()[row] == pytest.approx(
            scores[(scores > 0) & same].sum() / scores[scores > 0].sum()
        )
        ranked = np.argsort(-scores, kind="stable")
        others = np.flatnonzero(~same[ranked] & (scores[ranked] > 0))
        assert found.first_of_another_class()[row] == (others[0] + 1 if len(others) else 61)


def test_scores_whose_sign_is_turned_are_turned_back() -> None:
    objective, queries = linear()
    inputs, labels, query_inputs, query_labels = data()
    influence = uw.Influence(objective)
    removal, upweight = (
        by_distance(influence.attribute(queries, quantity=quantity), inputs, query_inputs, labels, query_labels)
        for quantity in ("removal", "upweight")
    )
    np.testing.assert_allclose(removal.same_class_share(), upweight.same_class_share())
    np.testing.assert_allclose(removal.correlation(of_size=False), upweight.correlation(of_size=False))


def test_a_kernel_machine_explains_by_closeness_and_a_feature_model_does_not() -> None:
    inputs, _, query_inputs, _ = data()
    (near, near_queries), (far, far_queries) = kernel(), linear()
    found = compare_models(
        {"kernel": near, "feature": far},
        {"kernel": near_queries, "feature": far_queries},
        inputs,
        query_inputs,
        k=3,
        query_ids=list("abcdefgh"),
    )
    summary = found.summary()
    assert summary.loc["kernel", "rho_influence_distance"] < -0.5
    assert abs(summary.loc["feature", "rho_influence_distance"]) < 0.3
    assert summary.loc["kernel", "same_class_share"] > 0.95
    assert summary.loc["feature", "same_class_share"] < 0.8
    table = found.to_pandas()
    assert list(table.columns[:3]) == ["model", "query", "right"]
    assert len(table) == 16
    assert table["right"].mean() > 0.8
    assert "Comparison of 2 models, means over 8 queries" in repr(found)
    assert found.models["kernel"].explanation.helpful.positions.shape == (8, 3)


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused() -> None:
    objective, queries = linear()
    inputs, labels, query_inputs, query_labels = data()
    attribution = uw.Influence(objective).attribute(queries)
    with pytest.raises(InputError, match="3 numbers an example, where the training inputs have 40"):
        by_distance(attribution, inputs, query_inputs[:, :3], labels, query_labels)
    with pytest.raises(InputError, match=r"distances: need one for each score \(8, 60\)"):
        by_distance(attribution, inputs[:5], query_inputs, labels, query_labels)
    with pytest.raises(InputError, match=r"labels: need one for each of \(8, 60\)"):
        by_distance(attribution, inputs, query_inputs, labels[:3], query_labels)
    with pytest.raises(InputError, match="inputs: NaN or infinite"):
        by_distance(attribution, inputs * torch.nan, query_inputs, labels, query_labels)
    with pytest.raises(InputError, match="give numbers"):
        by_distance(attribution, labels, query_inputs, labels, query_labels)
    found = by_distance(attribution, inputs, query_inputs, labels, query_labels)
    with pytest.raises(InputError, match="k: give a whole number of at least 1"):
        found.same_class_share(0)
    with pytest.raises(InputError, match="queries: give them for"):
        compare_models({"one": objective}, {"two": queries}, inputs, query_inputs)
    other = objective.replace(data=(inputs[:, :1], 1 - labels))
    with pytest.raises(InputError, match="'two' has other labels than 'one'"):
        compare_models({"one": objective, "two": other}, {"one": queries, "two": queries}, inputs, query_inputs)


def test_labels_are_whole_numbers_in_whatever_they_come() -> None:
    objective, queries = linear()
    inputs, labels, query_inputs, query_labels = data()
    attribution = uw.Influence(objective).attribute(queries)
    numbered, asked = (labels > 0).long(), (query_labels > 0).long()
    expected = by_distance(attribution, inputs, query_inputs, numbered, asked).same_class
    for kind in (torch.bool, torch.float32, torch.uint8):
        found = by_distance(attribution, inputs, query_inputs, numbered.to(kind), asked.to(kind).tolist())
        assert torch.equal(found.same_class, expected)


def test_examples_without_influence_are_told_apart() -> None:
    objective, queries = kernel()
    inputs, labels, query_inputs, query_labels = data()
    attribution = uw.Influence(objective).attribute(queries)
    scores = attribution.scores.clone()
    scores[:, ::2] = 0
    silenced = replace(attribution, scores=scores)
    found = by_distance(silenced, inputs, query_inputs, labels, query_labels)
    assert not found.influential[:, ::2].any()
    expected = by_distance(
        replace(attribution, scores=scores[:, 1::2], ids=attribution.ids[1::2]),
        inputs[1::2],
        query_inputs,
        labels[1::2],
        query_labels,
    )
    np.testing.assert_allclose(found.correlation(among="influential"), expected.correlation(among="influential"))
    nothing = by_distance(replace(attribution, scores=0 * scores), inputs, query_inputs, labels, query_labels)
    assert np.isnan(nothing.correlation(among="influential")).all()
    assert np.isnan(nothing.same_class_share()).all()
