"""Networks trained together against the same networks trained alone by a plain torch loop."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import upweight as uw
from problems import DOUBLE, close
from upweight.errors import InputError, NotConvergedWarning
from upweight.retraining import Recipe, random_halves, train_together

N = 40
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
Y = (X @ torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)).argmax(1)
SUBSETS = [list(range(0, 40, 2)), list(range(13)), [5, 6, 7], list(range(39, 10, -1)), list(range(20))]
SEEDS = [0, 1, 2, 3, 0]
LOSS = uw.losses.CrossEntropy()


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).to(DOUBLE)


def flat(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters() if value.requires_grad])


def alone(
    subset: Any,
    seed: int,
    optimizer: Callable[[Any], torch.optim.Optimizer],
    scheduler: Callable[[torch.optim.Optimizer, int], Any],
    *,
    epochs: int = 4,
    batch_size: int = 6,
    make: Callable[[], nn.Module] = build,
) -> Tensor:
    """The textbook loop."""
    torch.manual_seed(seed)
    model = make()
    steps = optimizer([value for value in model.parameters() if value.requires_grad])
    rates = scheduler(steps, epochs * -(-len(subset) // batch_size))
    generator = torch.Generator().manual_seed(seed)
    index = torch.as_tensor(subset)
    for _ in range(epochs):
        order = torch.randperm(len(index), generator=generator)
        for start in range(0, len(index), batch_size):
            chosen = index[order[start : start + batch_size]]
            steps.zero_grad()
            F.cross_entropy(model(X[chosen]), Y[chosen]).backward()
            steps.step()
            rates.step()
    return flat(model)


def constant(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, optimizer.param_groups[0]["lr"], total_steps=steps)


def without_momentum_cycle(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    peak = optimizer.param_groups[0]["lr"]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, cycle_momentum=False)


def decaying(step: int) -> float:
    return 0.9**step


def decay(optimizer: torch.optim.Optimizer, steps: int) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, decaying)


RECIPES: dict[str, tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer], Any]] = {
    "plain": ({"lr": 0.2}, lambda p: torch.optim.SGD(p, lr=0.2), constant),
    "momentum": (
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2},
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
        constant,
    ),
    "one-cycle": (
        {"lr": 0.2, "momentum": 0.9, "weight_decay": 1e-3, "schedule": "one-cycle"},
        lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9, weight_decay=1e-3),
        one_cycle,
    ),
    "one-cycle, momentum as given": (
        {"lr": 0.2, "momentum": 0.9, "schedule": "one-cycle", "cycle_momentum": False},
        lambda p: torch.optim.SGD(p, lr=0.2, momentum=0.9),
        without_momentum_cycle,
    ),
    "decay": ({"lr": 0.3, "schedule": decaying}, lambda p: torch.optim.SGD(p, lr=0.3), decay),
    "adam": (
        {"lr": 0.02, "weight_decay": 1e-2, "optimizer": "adam"},
        lambda p: torch.optim.Adam(p, lr=0.02, weight_decay=1e-2),
        constant,
    ),
    "adam, one-cycle": (
        {"lr": 0.02, "schedule": "one-cycle", "optimizer": "adam"},
        lambda p: torch.optim.Adam(p, lr=0.02),
        one_cycle,
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_together_equals_alone(name: str) -> None:
    options, optimizer, scheduler = RECIPES[name]
    trained = train_together(build, LOSS, (X, Y), SUBSETS, SEEDS, Recipe(epochs=4, batch_size=6, **options))
    expected = [alone(subset, seed, optimizer, scheduler) for subset, seed in zip(SUBSETS, SEEDS, strict=True)]
    close(trained.params, torch.stack(expected))


@settings(max_examples=6, deadline=None)
@given(memory=st.integers(1, 60_000), order=st.permutations(range(len(SEEDS))))
def test_blocks_and_order_of_models_change_nothing(memory: int, order: list[int]) -> None:
    recipe = Recipe(epochs=2, batch_size=8, lr=0.1, momentum=0.9, schedule="one-cycle")
    whole = train_together(build, LOSS, (X, Y), SUBSETS, SEEDS, recipe)
    chosen = [SUBSETS[j] for j in order], [SEEDS[j] for j in order]
    cut = train_together(build, LOSS, (X, Y), *chosen, recipe, memory=memory)
    close(cut.params, whole.params[order])
    assert [subset.tolist() for subset in cut.subsets] == chosen[0]


def test_the_memory_decides_how_many_are_trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    stack = torch.func.stack_module_state
    monkeypatch.setattr(
        "upweight.retraining.together.stack_module_state",
        lambda models: (sizes.append(len(models)), stack(models))[1],
    )
    recipe = Recipe(epochs=1, batch_size=8, lr=0.1)
    for memory in (1, 2**24):
        train_together(build, LOSS, (X, Y), SUBSETS, SEEDS, recipe, memory=memory)
    assert sizes == [1] * 5 + [5]


class Frozen(nn.Module):
    """A frozen layer that differs by seed, a random buffer, batch-norm in eval mode, and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(3, 4).requires_grad_(False)
        self.register_buffer("shift", torch.randn(4), persistent=False)
        self.norm = nn.BatchNorm1d(4).eval()
        self.inner, self.again = nn.Linear(4, 4), nn.Linear(4, 4)
        self.again.weight = self.inner.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(torch.tanh(self.frozen(x) + self.shift))
        return self.head(torch.tanh(self.again(torch.tanh(self.inner(hidden)))))


def test_frozen_layers_buffers_and_tied_weights() -> None:
    options, optimizer, scheduler = RECIPES["momentum"]
    make = lambda: Frozen().to(DOUBLE)  # noqa: E731
    trained = train_together(make, LOSS, (X, Y), SUBSETS, SEEDS, Recipe(epochs=4, batch_size=6, **options))
    for j, (subset, seed) in enumerate(zip(SUBSETS, SEEDS, strict=True)):
        close(trained.params[j], alone(subset, seed, optimizer, scheduler, make=make))
        torch.manual_seed(seed)
        start, model = make(), trained.model(j)
        close(model.frozen.weight, start.frozen.weight)
        close(model.shift, start.shift)
        close(flat(model), trained.params[j])


def test_convolutions_and_dict_batches() -> None:
    images = X[:, :, None, None].expand(-1, -1, 4, 4) * torch.linspace(-1, 1, 16, dtype=DOUBLE).reshape(4, 4)

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))

        def forward(self, pixels: Tensor) -> Tensor:
            return self.layers(pixels)

    data = {"pixels": images, "labels": Y}
    recipe = Recipe(epochs=2, batch_size=7, lr=0.1)
    make = lambda: Named().to(DOUBLE)  # noqa: E731
    trained = train_together(make, LOSS, data, SUBSETS, SEEDS, recipe)
    for j, (subset, seed) in enumerate(zip(SUBSETS, SEEDS, strict=True)):
        torch.manual_seed(seed)
        model, index = make(), torch.tensor(subset)
        optimizer, generator = torch.optim.SGD(model.parameters(), lr=0.1), torch.Generator().manual_seed(seed)
        for _ in range(2):
            for chosen in index[torch.randperm(len(index), generator=generator)].split(7):
                optimizer.zero_grad()
                F.cross_entropy(model(images[chosen]), Y[chosen]).backward()
                optimizer.step()
        close(trained.params[j], flat(model))


def test_losses_of_queries_are_those_of_each_model_alone() -> None:
    trained = train_together(build, LOSS, (X, Y), SUBSETS, SEEDS, Recipe(epochs=2, batch_size=8, lr=0.1))
    expected = [F.cross_entropy(trained.model(j)(X), Y, reduction="none") for j in range(len(SEEDS))]
    close(trained.losses(LOSS, (X, Y)), torch.stack(expected).detach())
    close(trained.losses(LOSS, (X, Y), batch_size=7), torch.stack(expected).detach())


def test_the_random_state_of_the_process_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train_together(build, LOSS, (X, Y), SUBSETS[:1], [0], Recipe(epochs=1, batch_size=8, lr=0.1))
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.5), nn.BatchNorm1d(5)], ids=["dropout in training mode", "batch-norm in training mode"]
)
def test_refuses_what_draws_or_mixes_and_names_the_other_way(layer: nn.Module) -> None:
    make = lambda: nn.Sequential(nn.Linear(3, 5), layer, nn.Linear(5, 3)).to(DOUBLE)  # noqa: E731
    with pytest.raises(InputError, match=r"in training mode.*retraining\.train_many"):
        train_together(make, LOSS, (X, Y), SUBSETS, SEEDS, Recipe(epochs=1, batch_size=8, lr=0.1))


def test_refuses_what_cannot_be_vectorised_and_names_the_other_way() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * torch.tensor([[float(row.mean())] for row in x], dtype=DOUBLE)

    make = lambda: Scaled(3, 3).to(DOUBLE)  # noqa: E731
    with pytest.raises(InputError, match=r"can't be trained together \(.*retraining\.train_many"):
        train_together(make, LOSS, (X, Y), SUBSETS, SEEDS, Recipe(epochs=1, batch_size=8, lr=0.1))


@pytest.mark.parametrize(
    ("subsets", "seeds", "words"),
    [
        ([], [], "one or more"),
        ([[0, 1]], [0, 1], "a seed for each"),
        ([[0, 99]], [0], r"number 0: positions are in 0 … 39; got 0 … 99"),
        ([[]], [0], "one or more positions"),
        ([[0.5]], [0], "one or more positions"),
    ],
)
def test_refuses_impossible_subsets(subsets: Any, seeds: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        train_together(build, LOSS, (X, Y), subsets, seeds, Recipe(epochs=1, batch_size=8, lr=0.1))


def test_refuses_labels_that_the_network_has_no_output_for() -> None:
    with pytest.raises(InputError, match="classes 0 … 2"):
        train_together(build, LOSS, (X, Y + 1), SUBSETS, SEEDS, Recipe(epochs=1, batch_size=8, lr=0.1))


def test_says_which_models_diverged() -> None:
    loss = uw.losses.SquaredError()
    make = lambda: nn.Linear(3, 1).to(DOUBLE)  # noqa: E731
    with pytest.warns(NotConvergedWarning, match="2 of 2 models diverged .* number 0 with seed 8"):
        train_together(make, loss, (X, X[:, 0]), [[0, 1, 2], [3, 4]], [8, 9], Recipe(epochs=200, batch_size=3, lr=1e4))


@pytest.mark.parametrize(
    "options",
    [
        *({"epochs": 0}, {"batch_size": 0}, {"lr": -1.0}, {"optimizer": "lbfgs"}, {"schedule": "cosine"}),
        {"optimizer": "adam", "momentum": 0.9},
    ],
)
def test_refuses_impossible_recipes(options: dict[str, Any], unchecked: None) -> None:
    with pytest.raises(InputError, match=next(reversed(options))):
        Recipe(**{"epochs": 1, "batch_size": 8, "lr": 0.1, **options})


def test_random_halves_are_distinct_sorted_and_repeatable() -> None:
    halves = random_halves(11, 4, seed=5)
    assert halves.shape == (4, 6)
    assert (halves.diff(dim=1) > 0).all()
    assert len(halves.unique(dim=0)) == 4
    assert torch.equal(halves, random_halves(11, 4, seed=5))
    assert not torch.equal(halves, random_halves(11, 4, seed=6))
    assert random_halves(100, 2, seed=0, fraction=0.3).shape == (2, 30)
    with pytest.raises(InputError, match="fraction"):
        random_halves(10, 2, seed=0, fraction=1.5)
