"""Parts of θ: what is chosen, exactly how much, and that a model restricted to it is the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import upweight as uw
from problems import DOUBLE, close, mlp
from upweight import select
from upweight.errors import InputError
from upweight.select.units import units

pytestmark = pytest.mark.filterwarnings("ignore::upweight.errors.NotStationaryWarning")  # untrained models


class Net(nn.Module):
    """Two convolutions, one transposed, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3)
        self.up = nn.ConvTranspose2d(6, 4, 3, bias=False)
        self.head = nn.Linear(4 * 6 * 6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.up(self.first(x).relu()).relu().flatten(1))


def objective(**options: Any) -> uw.Objective:
    torch.manual_seed(0)
    model = Net().double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 1, 6, 6, generator=generator, dtype=DOUBLE)
    y = torch.randint(0, 5, (12,), generator=generator)
    return uw.Objective(model, uw.losses.CrossEntropy(), (x, y), l2=0.1, **options)


def activations(whole: uw.Objective, index: list[int]) -> dict[str, torch.Tensor]:
    """Outputs of the layers and the gradients there, with the units last, by hand."""
    model: Any = whole.model
    x, y = whole.data.take(index)
    first = model.first(x)
    up = model.up(first.relu())
    head = model.head(up.relu().flatten(1))
    loss = nn.functional.cross_entropy(head, y, reduction="sum")
    slopes = torch.autograd.grad(loss, [first, up, head])
    names = ("first", "up", "head")
    outputs = {n: v.detach().movedim(1, -1) for n, v in zip(names, (first, up, head), strict=True)}
    return outputs | {f"{n} gradient": v.movedim(1, -1) for n, v in zip(names, slopes, strict=True)}


def test_units_are_output_rows_and_channels_with_their_biases() -> None:
    whole = objective()
    layers = units(whole.model, whole.layout)
    assert [(layer.name, layer.count) for layer in layers] == [("first", 6), ("up", 4), ("head", 5)]
    named = whole.layout.unflatten(layers[0].mask(whole.layout, torch.tensor([2])))
    assert named["first.weight"].flatten(1).all(1).tolist() == [False, False, True, False, False, False]
    assert named["first.bias"].tolist() == [False, False, True, False, False, False]
    assert not named["head.weight"].any()
    up = whole.layout.unflatten(layers[1].mask(whole.layout, torch.tensor([3])))["up.weight"]
    assert up[:, 3].all()
    assert not up[:, :3].any()


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("what", ["output", "gradient"])
@pytest.mark.parametrize("batch_size", [None, 5])
def test_units_are_ranked_by_means_over_examples_and_positions(
    what: str, absolute: bool, batch_size: int | None
) -> None:
    whole, index = objective(batch_size=batch_size), list(range(2, 12))
    seen = activations(whole, index)
    highest = getattr(select, f"highest_{what}")(0.5, absolute=absolute).of(whole, index)
    lowest = getattr(select, f"lowest_{what}")(0.5, absolute=absolute).of(whole, index)
    for name, count in (("first", 6), ("head", 5)):
        values = seen[name if what == "output" else f"{name} gradient"]
        means = (values.abs() if absolute else values).reshape(-1, count).mean(0)
        order = means.argsort(descending=True)
        for subset, expected in ((highest, order[: count // 2]), (lowest, order[-(count // 2) :])):
            bias = whole.layout.unflatten(subset.mask)[f"{name}.bias"]
            assert bias.nonzero().flatten().tolist() == sorted(expected.tolist())


def test_fisher_scores_are_mean_squared_gradients() -> None:
    whole = objective()
    squared = torch.cat([rows for _, rows in whole.example_gradients()]).pow(2).mean(0)
    named = whole.layout.unflatten(squared)
    means = torch.cat([named["head.weight"], named["head.bias"][:, None]], dim=1).mean(1)
    chosen = whole.layout.unflatten(select.highest_fisher(0.2).of(whole).mask)["head.bias"]
    assert chosen.nonzero().flatten().tolist() == [int(means.argmax())]


def test_global_choices_rank_all_units_together() -> None:
    whole = objective()
    subset = select.highest_output(0.2, per="global").of(whole)
    seen = activations(whole, list(range(12)))
    means = torch.cat([seen[name].reshape(-1, count).mean(0) for name, count in (("first", 6), ("up", 4), ("head", 5))])
    chosen = set(means.topk(3).indices.tolist())
    layers = units(whole.model, whole.layout)
    places = [(layer, unit) for layer in layers for unit in range(layer.count)]
    expected = sum(
        int(layer.mask(whole.layout, torch.tensor([unit])).sum())
        for number, (layer, unit) in enumerate(places)
        if number in chosen
    )
    assert subset.size == expected
    assert sum(number for number, _ in subset.by_parameter().values()) == expected
    assert f"{expected:,} of {whole.p:,} entries" in repr(subset)


def test_random_choices_depend_on_the_seed_alone() -> None:
    whole = objective()
    first, again, other = (select.random(0.5, seed=seed).of(whole).mask for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_names_patterns_and_masks_choose_whole_or_single_entries() -> None:
    whole = objective()
    assert select.by_name(whole, "head.*").size == 5 * 144 + 5
    assert select.by_name(whole, ["up.*", "head.bias"]).size == 6 * 4 * 9 + 5
    assert select.everything(whole.layout).size == whole.p
    mask = torch.zeros(5, 144, dtype=torch.bool)
    mask[1, 2] = True
    subset = select.masked(whole.layout, {"head.weight": mask})
    assert subset.by_parameter() == {"head.weight": (1, 720)}
    vectors = torch.randn(3, 1, dtype=DOUBLE)
    close(subset.cut(subset.embed(vectors)), vectors)
    assert int((subset.embed(vectors) != 0).sum()) == 3


def test_the_model_is_left_without_hooks_and_as_it_was() -> None:
    whole = objective()
    before = [value.clone() for value in whole.model.parameters()]
    select.highest_gradient(0.5).of(whole)
    assert all(not module._forward_hooks for module in whole.model.modules())
    assert all(torch.equal(a, b) for a, b in zip(before, whole.model.parameters(), strict=True))
    assert all(value.grad is None for value in whole.model.parameters())


def test_an_objective_of_a_subset_has_its_gradients_and_curvature() -> None:
    whole = objective()
    subset = select.highest_output(0.5).of(whole)
    part = objective(parameters=subset)
    assert part.p == subset.size
    j = subset.indices
    close(part.losses(), whole.losses())
    close(part.gradient(), whole.gradient()[j])
    close(part.l2, whole.l2[j])
    every = torch.cat([rows for _, rows in whole.example_gradients()])
    close(torch.cat([rows for _, rows in part.example_gradients()]), every[:, j])
    for curvature in (uw.curvature.Hessian(), uw.curvature.GGN()):
        close(curvature.of(part).dense(), curvature.of(whole).dense()[j][:, j], rtol=1e-8, atol=1e-10)
    close(objective(parameters=select.highest_output(0.5)).params, part.params)


def test_a_restricted_model_gives_the_whole_back() -> None:
    whole = objective()
    part = objective(parameters=select.by_name(whole, "head.*"))
    moved = part.at(part.params + 1.0).model
    restored: Any = moved.whole()
    close(restored.head.bias, whole.model.head.bias + 1.0)
    close(restored.first.weight, whole.model.first.weight)
    x = torch.randn(3, 1, 6, 6, dtype=DOUBLE)
    close(restored(x), moved(x))


def test_penalties_by_name_are_those_of_the_entries() -> None:
    whole = objective()
    mask = torch.zeros(whole.p, dtype=torch.bool)
    mask[::7] = True
    subset = select.masked(whole.layout, mask)
    data = whole.data.take(range(12))
    named = {"*weight": 0.5, "head.bias": 0.1}
    full = uw.Objective(whole.model, whole.loss, data, l2=named)
    part = uw.Objective(whole.model, whole.loss, data, l2=named, parameters=subset)
    close(part.l2, full.l2[mask])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda whole: select.highest_output(0.0), "ratio: give a finite number > 0 and ≤ 1; got 0.0"),
        (lambda whole: select.highest_output(0.5, per="model"), "per: one of 'layer', 'global'; got 'model'"),
        (
            lambda whole: select.highest_output(0.01).of(whole),
            r"ratio: 0.01 is less than one unit of every layer .*; take 0\.\d+ or more, or per='global'",
        ),
        (lambda whole: select.by_name(whole, []), r"parameters: got no names; give some of \['"),
        (lambda whole: select.by_name(whole, "tail.*"), r"parameters: 'tail.\*' matches none"),
        (lambda whole: select.masked(whole.layout, torch.zeros(3, dtype=torch.bool)), "a mask is .* booleans"),
        (
            lambda whole: select.masked(whole.layout, torch.zeros(whole.p, dtype=torch.bool)),
            "given entries chooses none of the",
        ),
        (lambda whole: select.masked(whole.layout, {"tail": torch.ones(3)}), "parameters: 'tail' is none of those"),
        (
            lambda whole: select.masked(whole.layout, {"head.bias": torch.ones(3, dtype=torch.bool)}),
            r"the mask of 'head.bias' must be booleans of shape \(5,\)",
        ),
        (
            lambda whole: objective(parameters=select.everything(mlp().objective().layout)),
            "parameters: chosen of a model with '0.weight'",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_the_mend(ask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(objective())


def test_frozen_layers_have_no_units() -> None:
    torch.manual_seed(0)
    model = Net().double()
    model.first.requires_grad_(False)
    data = (torch.randn(4, 1, 6, 6, dtype=DOUBLE), torch.tensor([0, 1, 2, 3]))
    frozen = uw.Objective(model, uw.losses.CrossEntropy(), data)
    assert [layer.name for layer in units(frozen.model, frozen.layout)] == ["up", "head"]
    with pytest.raises(InputError, match=r"parameters: 'first.\*' matches none of those that training changed"):
        select.by_name(frozen, "first.*")


@pytest.mark.parametrize("per", ["layer", "global"])
def test_the_ratio_that_the_error_names_is_enough(per: Any) -> None:
    with pytest.raises(InputError) as refused:
        select.lowest_output(1e-4, per=per).of(objective())
    named = float(str(refused.value).split("take ")[1].split(" ")[0])
    assert select.lowest_output(named, per=per).of(objective()).size > 0
