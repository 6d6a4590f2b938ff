"""What a loss or a measurement must be: one value per example, that leads to θ, and that no other example changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from upweight.data import Batch, Data
from upweight.errors import InputError
from upweight.forward import half_of, widest
from upweight.gradients.graph import uses
from upweight.gradients.substituted import called, substituted
from upweight.losses import Split
from upweight.parameters import Layout

FEWEST, SPREAD = 8, 64
"""Examples that are compared in several batches: so many at least, and at most, as they fit a pass twice."""
RELATIVE = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Share of a value that may differ between batches, by the precision of θ: what is smaller matters to no score."""
FLOAT32 = (2.0**-23, 100)
"""By how much, relative to itself, each parameter is moved to see what rounding does, and how many times the largest
change of a value that this makes is put down to rounding. In batches of another form other kernels run, which add in
another order, in each of a deep network's sums. For float64 too: a model may compute in float32 on its way."""
TENSOR_CORES = (2.0**-11, 10)
"""The same where products of float32 may be made in TF32, which some kernels use and others don't."""
HALF = 4
"""How many times of a move by the last of its own bits, where the model runs in 16."""

Value = Callable[[nn.Module, Batch], Any]


@dataclass(frozen=True)
class Sizes:
    """How many examples are looked at together.

    Attributes
    ----------
    rows
        Of a pass.
    fitting
        As many as memory would hold.
    """

    rows: int
    fitting: int

    @property
    def spread(self) -> int:
        """Examples that are compared in several batches: four more evaluations of each."""
        return min(max(self.fitting // 2, FEWEST), SPREAD)


def refuse_shape(name: str, values: Any, count: int, examples: str = "examples") -> None:
    """Refuse what isn't a tensor of one value per example."""
    if not isinstance(values, Tensor):
        raise InputError(f"{name}: must return a tensor of one value per example; got {type(values).__name__}")
    if values.is_complex():
        raise InputError(f"{name}: returned {values.dtype}; give real numbers, such as their size")
    if values.shape != (count,):
        hint = (
            "it is already reduced; use reduction='none' and sum over each example"
            if values.dim() == 0
            else "sum over positions and outputs so that one value per example is left"
        )
        raise InputError(
            f"{name}: returned shape {tuple(values.shape)} for {count} {examples}, expected ({count},): {hint}"
        )


def refuse_cut_off(name: str, model: nn.Module, function: Any, layout: Layout, params: Tensor, batch: Batch) -> None:
    """Refuse values from which autograd finds no way back to θ: every gradient, and so every score, would be 0."""
    values = _reaching(model, function, layout, params, batch)
    if values is None:
        return
    if isinstance(function, Split) and _reaching(model, function.outputs, layout, params, batch) is not None:
        name = "model"
    what = "its values" if name != "model" else "its outputs"
    if values.requires_grad:
        raise InputError(
            f"{name}: {what} depend on none of the {len(layout.names)} parameters in θ ({', '.join(layout.names[:4])}"
            f"{', …' if len(layout.names) > 4 else ''}), so every score would be 0; select parameters that they use"
        )
    raise InputError(
        f"{name}: {what} are cut off from the model's parameters, so every score would be 0; take out what autograd "
        "can't follow: detach, no_grad, inference_mode, NumPy, argmax or comparisons"
    )


def _reaching(model: nn.Module, function: Any, layout: Layout, params: Tensor, batch: Batch) -> Tensor | None:
    """None where the values lead to θ, else the values."""
    with torch.enable_grad():
        leaves = {key: value.detach().requires_grad_() for key, value in layout.unflatten(params).items()}
        values = substituted(model, function, twice=False)(leaves, batch)
        return None if any(True for _ in uses([values], leaves, frozenset())) else values


def refuse_dependence(
    name: str,
    model: nn.Module,
    function: Value,
    data: Data,
    values: Float[Tensor, " n"],
    sizes: Sizes,
    ids: Sequence[Any] | Any,
    word: str = "example",
) -> None:
    """Refuse values that depend on the other examples of a batch.

    A spread of examples (`Sizes.spread`) is evaluated in two orders and two splits (one of them by value, so that
    whatever mines, ranks or counts sees other company), the first and the last alone too, and all compared with
    ``values``. A batch that can't be made or evaluated (one example alone under batch-norm) is left out; the others are
    compared.

    Parameters
    ----------
    values
        Of all examples, in batches as they come.
    sizes
        Of those batches.
    ids, word
        What the examples are called, and what they are.

    Raises
    ------
    InputError
        If a difference is more than rounding; names the example and its two values.
    """
    n = len(data)
    spread = torch.linspace(0, n - 1, min(n, sizes.spread)).long().unique()
    size = max(min(sizes.rows, sizes.spread), 4)
    scale = RELATIVE.get(values.dtype, 1e-3)
    worst: tuple[float, int, float, Tensor] | None = None
    noise = None
    for group in _groups(spread, values, size):
        found = _evaluated(model, function, data, group)
        if found is None:
            continue
        expected = values[group.to(values.device)]
        apart = (found - expected).abs() - scale * expected.abs()
        if not bool((apart > 0).any()):
            continue
        if noise is None:
            noise = _rounding(model, function, data, spread[:size])
        beyond = (apart - noise) / expected.abs().clamp_min(torch.finfo(values.dtype).tiny)
        at = int(beyond.argmax())
        if float(beyond[at]) > 0 and (worst is None or float(beyond[at]) > worst[0]):
            worst = float(beyond[at]), int(group[at]), float(found[at]), group
    if worst is None:
        return
    _, position, other, group = worst
    example, own = ids[position], float(values[position])
    again = _evaluated(model, function, data, group)
    third = other if again is None else float(again[group == position][0])
    if abs(third - other) > scale * max(abs(other), abs(third)):
        raise InputError(
            f"data: {word} {example} isn't the same each time it is read: its value is {own:.4g}, {other:.4g} and "
            f"{third:.4g}; take out what draws random numbers (augmentation?)"
        )
    company = "alone" if len(group) == 1 else f"in another batch, of {len(group)}"
    raise InputError(
        f"{name}: an example's value depends on the other examples of its batch: {word} {example} has {own:.4g}, and "
        f"{other:.4g} {company}{batch_statistics(model)}; take out what averages, counts, ranks or compares over the "
        "batch (or pads it, where padding isn't masked)"
    )


def _groups(spread: Int[Tensor, " m"], values: Tensor, size: int) -> Iterator[Int[Tensor, " k"]]:
    """The batches in which examples are looked at."""
    m = len(spread)
    half = max(-(-min(m, size) // 2), 1)
    shuffled = spread[torch.randperm(m, generator=torch.Generator().manual_seed(0))]
    by_value = spread[values[spread.to(values.device)].argsort(stable=True).cpu()]
    if m <= 3:  # too few for splits of two: in company of themselves
        yield from (torch.cat([spread, spread[k : k + 1]]) for k in range(m))
        yield from (torch.cat([spread[k : k + 1], spread[k : k + 1]]) for k in range(m))
    else:
        yield from spread.split(size)
        yield from shuffled.split(size)
        yield from spread.split(half)
        yield from by_value.split(half)
    yield spread[:1]
    yield spread[-1:]


def _evaluated(model: nn.Module, function: Value, data: Data, group: Int[Tensor, " k"]) -> Tensor | None:
    """The values of these examples as one batch; None where they can't be one."""
    try:
        batch = data.take(group)
    except Exception:
        return None
    return _values(model, function, batch, len(group), {})


def _values(model: nn.Module, function: Value, batch: Batch, count: int, named: dict[str, Tensor]) -> Tensor | None:
    try:
        found = called(model, function, batch, named)
    except Exception:
        return None
    return found.detach() if isinstance(found, Tensor) and found.shape == (count,) else None


def _rounding(model: nn.Module, function: Value, data: Data, group: Int[Tensor, " k"]) -> float:
    """What of a difference between batches may be rounding."""
    generator, largest = torch.Generator().manual_seed(0), 0.0
    parameters = dict(model.named_parameters())
    coarse = any(value.is_cuda and value.dtype == torch.float32 for value in parameters.values()) and (
        torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    )
    half = half_of(model)
    unit, times = TENSOR_CORES if coarse else FLOAT32
    unit, times = (unit, times) if half is None else (torch.finfo(half).eps / 2, HALF)
    try:
        batch = data.take(group)
    except Exception:
        return 0.0
    base = _values(model, function, batch, len(group), {})
    for _ in range(1 if len(group) > 16 else 3):
        moved = {}
        for key, value in parameters.items():
            own = widest(value.detach())
            signs = torch.randint(0, 2, value.shape, generator=generator).to(own) * 2 - 1
            moved[key] = own * (1 + unit * signs)
        other = _values(model, function, batch, len(group), moved)
        if base is not None and other is not None:
            largest = max(largest, float((other - base).abs().max()))
    return times * largest


def batch_statistics(model: nn.Module) -> str:
    """The batch-norm that has no statistics of its own, if there is one."""
    for key, part in model.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None:
            return f" (batch-norm {key!r} has no running statistics, and takes the batch's in eval mode too)"
    return ""
