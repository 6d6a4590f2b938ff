"""The sketch of gradients by factors against its matrix, written out, and inner products against their variance."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import upweight as uw
from problems import DOUBLE, close
from sketches import matrix_of
from upweight.baselines import sketch
from upweight.baselines.projection import Projection, projected
from upweight.gradients import Block, Gradients, Shape
from upweight.gradients.terms import Direct, Lookup, Outer
from upweight.parameters import Layout

CPU = torch.device("cpu")
BY_FACTORS, AS_MATRICES = -(10**9), 10**9
"""`TRANSFORM_WORK` at which every outer product goes one way."""


def layout_of(**shapes):
    return Layout(tuple(shapes), tuple(torch.Size(shape) for shape in shapes.values()))


def normal(*shape):
    return torch.randn(*shape, dtype=DOUBLE)


def mixed(examples=5):
    """Every form of a block: a bias or none, several positions and uses, transposed, lookups, no factors at all."""
    layout = layout_of(
        w=(6, 4), b=(6,), t=(3, 7), s=(5, 2), sb=(5,), e=(9, 3), q=(4, 4), scale=(4,), one=(), kernel=(2, 3, 2, 2)
    )
    index = torch.randint(9, (examples, 3))
    blocks = (
        Block(Shape("w", "b", 6, 5), (Outer(normal(examples, 3, 6), normal(examples, 3, 5)),)),
        Block(Shape("t", None, 7, 3, transposed=True), (Outer(normal(examples, 1, 7), normal(examples, 1, 3)),)),
        Block(
            Shape("s", "sb", 5, 3),
            (Outer(normal(examples, 2, 5), normal(examples, 2, 3)), Direct(normal(examples, 5, 3))),
        ),
        Block(Shape("e", None, 9, 3), (Lookup(index, normal(examples, 3, 3), 9),)),
        Block(Shape("q", None, 4, 4), (Outer(normal(examples, 0, 4), normal(examples, 0, 4)),)),
        Block(Shape("scale", None, 4, 1), (Direct(normal(examples, 4, 1)),)),
        Block(Shape("one", None, 1, 1), (Direct(normal(examples, 1, 1)),)),
        Block(Shape("kernel", None, 2, 12), (Outer(normal(examples, 4, 2), normal(examples, 4, 12)),)),
    )
    return Gradients(layout, blocks, examples)


@pytest.mark.parametrize("work", [BY_FACTORS, AS_MATRICES, sketch.TRANSFORM_WORK])
@pytest.mark.parametrize("k", [1, 2, 3, 7, 32, 50])
def test_every_form_of_a_gradient_is_multiplied_by_one_matrix(monkeypatch, work, k):
    monkeypatch.setattr(sketch, "TRANSFORM_WORK", work)
    gradients = mixed()
    drawn = Projection(gradients.layout.p, k, (3,)).sketch(gradients.layout, CPU)
    close(drawn.of(gradients), gradients.materialize() @ matrix_of(drawn, gradients.layout), rtol=1e-10, atol=1e-10)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spectrum=st.integers(1, 300), formed=st.integers(1, 300), work=st.sampled_from([BY_FACTORS, AS_MATRICES]))
def test_sketches_do_not_depend_on_how_many_are_made_together(spectrum, formed, work):
    gradients = mixed(11)
    drawn = Projection(gradients.layout.p, 20, (0,)).sketch(gradients.layout, CPU)
    whole = drawn.of(gradients)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sketch, "SPECTRUM_ELEMENTS", spectrum)
        patch.setattr(sketch, "GRADIENT_ELEMENTS", formed)
        patch.setattr(sketch, "TRANSFORM_WORK", work)
        close(drawn.of(gradients), whole, rtol=1e-10, atol=1e-10)


def test_wide_layers_go_by_factors_and_narrow_ones_as_matrices(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(120, 90), nn.Tanh(), nn.Linear(90, 3)).to(DOUBLE)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (normal(9, 120), torch.arange(9) % 3))
    formed = []
    materialize = Outer.materialize
    monkeypatch.setattr(Outer, "materialize", lambda term: formed.append(term.shape) or materialize(term))
    given = Projection(objective.p, 24, (5,))
    found = projected(objective.engine.function, objective.params, objective.data, 4, given)
    assert set(formed) == {(3, 91)}
    gradients = objective.engine.function.each(objective.params, objective.data.take(range(9))).materialize()
    close(found, gradients @ matrix_of(given.sketch(objective.layout, CPU), objective.layout), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("k", "parts"), [(48, 4), (51, 3), (50, 2), (49, 1)])
def test_every_row_has_one_sign_in_each_of_the_equal_parts(k, parts):
    layout = layout_of(w=(9, 7), b=(9,))
    p = matrix_of(Projection(72, k, (1,)).sketch(layout, CPU), layout)
    assert p.shape == (72, k)
    for part in p.chunk(parts, dim=1):
        assert bool((part.count_nonzero(1) == 1).all())
    close(p.square().sum(1), torch.ones(72, dtype=DOUBLE))  # so that norms of single entries are exact
    assert 0.3 < float((p > 0).sum() / p.count_nonzero()) < 0.7


def test_seeds_parameters_and_groups_have_places_and_signs_of_their_own():
    layout = layout_of(v=(80, 20), w=(80, 20))
    drawn = [Projection(layout.p, 64, seed).sketch(layout, CPU) for seed in ((0, 0), (0, 1), (1, 0))]
    found = [places for one in drawn for places in one.places.values()]
    rows = [each for places in found for both in (places.rows, places.row_signs) for each in both]
    columns = [
        each for places in found for both in (places.columns, places.column_signs) for each in both.flatten(0, 1)
    ]
    assert (len(rows), len(columns)) == (3 * 2 * 2 * 4, 3 * 2 * 2 * 4 * sketch.GROUPS)
    for each in (rows, columns):
        assert len({one.numpy().tobytes() for one in each}) == len(each)
    assert found[0].group.bincount().tolist() == [80 // sketch.GROUPS] * sketch.GROUPS
    again = Projection(layout.p, 64, (0, 0)).sketch(layout, CPU)
    assert torch.equal(matrix_of(again, layout), matrix_of(drawn[0], layout))


def variance(first, second, groups, k):
    """What the docstring says, for one block."""
    inner = float((first * second).sum())
    total = float(first.square().sum() * second.square().sum()) + inner**2
    for g, h in zip(first.tensor_split(groups), second.tensor_split(groups), strict=True):
        for product in (g.T @ h, g @ h.T):
            total += float(product.square().sum() + (product @ product).trace())
    return total / k


@pytest.mark.parametrize("kind", ["whole", "outer", "same", "large entries"])
def test_inner_products_are_kept_on_average_with_the_variance_stated(kind):
    torch.manual_seed(1)
    r, c, k, draws = 12, 10, 512, 500
    first, second = normal(2, r, c)
    if kind != "whole":
        left, right = normal(2, r) + 1, normal(2, c) + 1  # cosines far from 0
        first, second = (a[:, None] * b for a, b in zip(left, right, strict=True))
    if kind == "same":
        second = first
    if kind == "large entries":
        first[0, :2] += 30
        second[0, :2] += 30
    layout = layout_of(w=(r, c))
    gradients = Gradients(layout, (Block(Shape("w", None, r, c), (Direct(torch.stack([first, second])),)),), 2)
    found = []
    for seed in range(draws):
        one, other = Projection(r * c, k, (seed,)).sketch(layout, CPU).of(gradients)
        found.append(float(one @ other))
    exact, errors = float((first * second).sum()), torch.tensor(found, dtype=DOUBLE)
    errors -= exact
    bound = variance(first, second, sketch.GROUPS, k)
    assert abs(float(errors.mean())) < 4 * math.sqrt(bound / draws)
    assert float(errors.square().mean()) < 1.2 * bound
    if kind != "large entries":  # terms −2Σ G²H² and the like, which the bound leaves out, are small then
        assert float(errors.square().mean()) > 0.6 * bound
