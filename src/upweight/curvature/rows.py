"""Curvature as rows: AᵀA + diag(λ), where every row is J_iᵀu of an example i and a cotangent u of its outputs.

Three choices of u. *Empirical*: the gradient of the example's own loss. *Sampled*: the gradient of the loss of a target
drawn from the model itself, so that the mean over draws is the Fisher matrix. *Spectral*: √ω·v for eigenvalues ω and
eigenvectors v of the loss's Hessian in the outputs, whose sum over all is the GGN exactly; the largest ω alone carry
most of its trace. (In the eigenbasis the rows of an example are orthogonal in the outputs: the classes' own rows
√p_c(e_c − p) are nearly parallel where two classes share the probability, so as many of them carry less.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Batch, batch_length, sent
from upweight.engine import Budget
from upweight.errors import InputError
from upweight.gradients import Gradients
from upweight.gradients.autograd import output_derivatives
from upweight.losses import BinaryLogistic, CrossEntropy, Loss
from upweight.objective import Objective

LARGEST_OUTPUT = 512
"""Numbers of an example's output up to which its loss's Hessian is decomposed."""
KEPT = 4
"""How many times what a budget keeps between passes, or what it keeps by default, the eigenvectors of chosen rows may
take: 4 GiB by default. All rows of a language model would be thousands of times the data."""
NEGLIGIBLE = 1e-9
"""Share of the largest eigenvalue below which a row is rounding."""


@dataclass(frozen=True)
class Draws:
    """Cotangents of targets drawn from the model, made when a row is: an example's outputs are never kept.

    ``samples`` rows in a row belong to one example. A draw depends on the seed, its number and the example's position
    alone, so batching changes nothing.
    """

    loss: Loss
    samples: int
    seed: int

    def cotangents(self, outputs: Tensor, batch: Batch, positions: Tensor, chosen: Tensor) -> Tensor:
        """∂ℓ/∂outputs at the drawn targets, one for each row."""
        shape = self.loss.draws(outputs)
        uniform = sent(uniforms(positions, chosen % self.samples, shape, self.seed), outputs.device)
        return self.loss.drawn_slope(outputs, batch, uniform)


@dataclass(frozen=True, eq=False)
class Rows:
    """Which rows make the matrix.

    Attributes
    ----------
    objective
        The model, data and θ that the rows are made of, when they are asked for.
    positions
        Training example of each row, ``[rows]``, in increasing order.
    cotangents
        u of each row: given ``[rows, …outputs]``, or drawn; None: the gradient of the example's own loss.
    weights
        What a row is multiplied by, ``[rows]``, so that Σ rows rowsᵀ is the curvature without the penalty.
    share
        Share of the trace in the outputs that the kept rows carry.
    name
        The matrix in words.
    """

    objective: Objective
    positions: Int[Tensor, " rows"]
    cotangents: Tensor | Draws | None
    weights: Float[Tensor, " rows"]
    share: float
    name: str

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def l2(self) -> Float[Tensor, " p"]:
        """λ of every parameter, which comes to the rows' matrix."""
        return self.objective.l2

    def factors(self, chosen: Tensor, *, compacted: bool = False) -> Gradients:
        """Some of the rows, by their numbers, as factors (``compacted``: in the form that holds fewest numbers)."""
        objective, source = self.objective, self.cotangents
        positions = self.positions[chosen]
        batch = objective.data.take(positions)
        if isinstance(source, Draws):

            def given(outputs: Tensor) -> Tensor:
                return source.cotangents(outputs, batch, positions, chosen)

        else:
            given = None if source is None else source[sent(chosen, source.device)]  # type: ignore[assignment]
        found = objective.engine.function.each(objective.params, batch, given, compacted=compacted)
        return found.weighted(self.weights[sent(chosen, self.weights.device)])

    def blocks(
        self, size: int, *, compacted: bool = False, chosen: Tensor | None = None
    ) -> Iterator[tuple[Tensor, Gradients]]:
        """Rows (None: all), in blocks of at most ``size`` and of what a pass of the objective may hold."""
        every = torch.arange(len(self)) if chosen is None else chosen
        for some in every.split(min(size, self.objective.engine.pass_rows)):
            yield some, self.factors(some, compacted=compacted)

    def between(self, start: int, stop: int) -> Int[Tensor, " chosen"]:
        """Numbers of the rows that belong to the training examples from ``start`` to before ``stop``."""
        first, last = torch.searchsorted(self.positions, torch.tensor([start, stop])).tolist()
        return torch.arange(first, last)

    def of_examples(self, objective: Objective, positions: Tensor) -> Rows:
        """The rows of these training examples, at least one, as another objective's function gives them."""
        chosen = torch.isin(self.positions, positions).nonzero().flatten()
        chosen = chosen if len(chosen) else torch.arange(1)
        source = self.cotangents
        kept = source[sent(chosen, source.device)] if isinstance(source, Tensor) else source
        weights = self.weights[sent(chosen, self.weights.device)]
        return Rows(objective, self.positions[chosen], kept, weights, self.share, self.name)


def empirical(objective: Objective) -> Rows:
    """√(w_i/n)·∇ℓ_i of every example: the empirical Fisher."""
    weights = (objective.weights / objective.n).sqrt()
    return Rows(objective, torch.arange(objective.n), None, weights, 1.0, "empirical Fisher")


def sampled(objective: Objective, samples: int, seed: int) -> Rows:
    """Gradients of the losses of targets drawn from the model: ``samples`` of every example.

    The draw of an example depends on the seed and its position alone, so batching changes nothing.
    """
    loss = sampleable(objective)
    if isinstance(loss, BinaryLogistic):
        loss.refuse_several(*outputs_and_targets(objective))
    weights = (objective.weights / (objective.n * samples)).sqrt().repeat_interleave(samples)
    positions = torch.arange(objective.n).repeat_interleave(samples)
    words = f"Fisher ({samples} sampled target{'s' if samples > 1 else ''} per example)"
    return Rows(objective, positions, Draws(loss, samples, seed), weights, 1.0, words)


def outputs_and_targets(objective: Objective) -> tuple[Tensor, Tensor]:
    """Of the first example."""
    batch = objective.data.take([0])
    assert isinstance(objective.loss, Loss)
    return outputs_of(objective, batch), objective.loss.targets(batch)


def spectral(objective: Objective, largest: int | None) -> Rows:
    """Eigenvectors of the loss's Hessian in each example's outputs: the GGN, or its ``largest`` rows."""
    _refuse_too_many(objective, largest)
    spectra = Spectra.of(objective)
    values = spectra.values
    flat = values.flatten()
    needed = int((flat > NEGLIGIBLE * flat.max()).sum())
    kept = needed if largest is None else min(largest, needed)
    if kept < 1:
        raise InputError(
            "loss: its Hessian in the outputs is zero everywhere, so the GGN has no rows; use another loss"
        )
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[flat.topk(kept).indices] = True
    wanted = chosen.reshape(values.shape)
    parts, positions = [], []
    for index, (spectrum, vectors, shape) in spectra.again(objective):
        example, number = wanted[index.to(wanted.device)].nonzero(as_tuple=True)
        parts.append(cotangents(spectrum, vectors, example, number, shape))
        positions.append(index[example.cpu()])
    share = float(flat[chosen].sum() / flat.clamp_min(0).sum())
    words = "GGN" if kept == needed else f"GGN of {kept:,} rows, {share:.1%} of its trace"
    weights = objective.weights.new_full((kept,), objective.n**-0.5)
    return Rows(objective, torch.cat(positions), torch.cat(parts).to(objective.dtype), weights, share, words)


def _refuse_too_many(objective: Objective, largest: int | None) -> None:
    outputs = outputs_of(objective, objective.data.take([0])).numel()
    kept = min(objective.n * outputs, largest or objective.n * outputs)
    need = kept * outputs * torch.float64.itemsize
    most = KEPT * max(objective.engine.budget.kept, Budget.kept)
    if need > most:
        raise InputError(
            f"curvature: {kept:,} rows of the GGN would hold {need / 2**30:.1f} GiB of outputs' eigenvectors "
            f"({most / 2**30:.2g} GiB at most, four times kept=… of upweight.Budget); "
            + ("use curvature.Fisher(samples=1)" if largest is None else "ask for fewer rows")
        )


def trace_share(objective: Objective, largest: int) -> float:
    """Share of the GGN's trace in the outputs that its largest rows carry."""
    values = Spectra.of(objective).values.flatten()
    return float(values.topk(min(largest, len(values))).values.sum() / values.sum())


OutputSpectrum = tuple[Tensor, Tensor, torch.Size]


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra of the loss's Hessian in every example's outputs: the values always, the vectors where they are few.

    Attributes
    ----------
    values
        ``[n, r]``.
    kept
        What `output_spectrum` gave for each batch, if it is held.
    """

    values: Float[Tensor, "n r"]
    kept: tuple[tuple[Tensor, OutputSpectrum], ...] | None

    @classmethod
    def of(cls, objective: Objective) -> Spectra:
        """One forward pass over the training data, made once for an objective."""
        return objective.engine.kept("output spectra", lambda: cls.made(objective))

    @classmethod
    def made(cls, objective: Objective) -> Spectra:
        """The pass itself."""
        found: list[tuple[Tensor, OutputSpectrum]] | None = []
        values, held = [], 0
        for index, batch in _bounded(objective):
            spectrum = output_spectrum(objective, batch, objective.weights[index])
            values.append(spectrum[0])
            held += spectrum[1].nbytes
            if found is not None:
                found = [*found, (index, spectrum)] if held <= objective.engine.budget.kept else None
        return cls(torch.cat(values), None if found is None else tuple(found))

    def again(self, objective: Objective) -> Iterator[tuple[Tensor, OutputSpectrum]]:
        """Positions and spectra batch by batch, computed again where they weren't held."""
        if self.kept is not None:
            yield from self.kept
            return
        for index, batch in _bounded(objective):
            yield index, output_spectrum(objective, batch, objective.weights[index])


def spectra_bytes(objective: Objective) -> int:
    """Bytes of what `Spectra` keeps; 0 of losses that have none, and of outputs too wide for them."""
    if not isinstance(objective.loss, Loss):
        return 0
    shape = outputs_of(objective, objective.data.take([0])).shape[1:]
    width = shape[-1] if isinstance(objective.loss, CrossEntropy) else math.prod(shape)
    if width > LARGEST_OUTPUT:
        return 0
    values = objective.n * math.prod(shape) * torch.float64.itemsize
    vectors = values * width
    return values + (vectors if vectors <= objective.engine.budget.kept else 0)


def _bounded(objective: Objective) -> Iterator[tuple[Tensor, Batch]]:
    """The training data in batches whose Hessians in the outputs fit the budget."""
    shape = outputs_of(objective, objective.data.take([0])).shape[1:]
    numbers = math.prod(shape) * (shape[-1] if isinstance(objective.loss, CrossEntropy) else math.prod(shape))
    rows = min(objective.batch_size or objective.data.rows, objective.engine.fitting(numbers, torch.float64))
    return objective.data.batches(None, rows)


def output_spectrum(
    objective: Objective, batch: Batch, weights: Tensor
) -> tuple[Float[Tensor, "b r"], Float[Tensor, "b place c c"], torch.Size]:
    """Eigenvalues and eigenvectors (columns) of w·∇²ℓ in the outputs, place by place, and the outputs' shape.

    Raises
    ------
    InputError
        If the outputs are too many for a decomposition.
    """
    outputs = outputs_of(objective, batch)
    loss = objective.loss
    count = batch_length(batch)
    if isinstance(loss, CrossEntropy):
        classes = outputs.shape[-1]
        _refuse_wide(classes, " a place")
        p = outputs.double().softmax(-1).reshape(count, -1, classes)
        mass = loss.mass(outputs, loss.targets(batch)).reshape(count, -1)
        matrices = (torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)) * mass[:, :, None, None].double()
    else:
        flat = outputs.reshape(count, -1)
        _refuse_wide(flat.shape[1])
        assert isinstance(loss, Loss)
        _, curvature = output_derivatives(lambda z: loss.of_outputs(z.reshape(outputs.shape), batch), flat)
        matrices = curvature.double()[:, None]
    values, vectors = torch.linalg.eigh(matrices)
    values = values.clamp_min(0) * weights.double()[:, None, None]
    return values.flatten(1), vectors, outputs.shape


def _refuse_wide(outputs: int, where: str = "") -> None:
    """Before a matrix of outputs × outputs is made for every example."""
    if outputs > LARGEST_OUTPUT:
        raise InputError(
            f"curvature: an example has {outputs:,} outputs{where}; rows of the GGN are made for up to "
            f"{LARGEST_OUTPUT}. Use curvature.Fisher(samples=1), or inverse.CG(curvature.GGN()), which makes none"
        )


def cotangents(
    spectrum: Tensor, vectors: Tensor, example: Tensor, number: Tensor, shape: torch.Size
) -> Float[Tensor, "rows ..."]:
    """√ω·v of chosen (example, number) pairs, zero at the other places of the output."""
    places, classes = vectors.shape[1], vectors.shape[2]
    place, column = number // classes, number % classes
    rows = torch.arange(len(example), device=vectors.device)
    full = vectors.new_zeros(len(example), places, classes)
    full[rows, place] = spectrum[example, number].sqrt()[:, None] * vectors[example, place, :, column]
    return full.reshape(len(example), *shape[1:])


def outputs_of(objective: Objective, batch: Batch) -> Tensor:
    """The model's outputs of a batch at the objective's θ."""
    with torch.no_grad():
        return objective.engine.function.outputs_of(objective.params, batch)


def uniforms(positions: Tensor, draws: Tensor, shape: tuple[int, ...], seed: int) -> Tensor:
    """Random numbers in [0, 1), a row's own: they depend on the seed, the draw and the example's position alone.

    By a counter-based generator, where seed and draw are the key and the position is the counter.
    """
    parts = []
    for position, draw in zip(positions.tolist(), draws.tolist(), strict=True):
        stream = np.random.Philox(key=[seed, draw], counter=[0, position, 0, 0])
        parts.append(np.random.Generator(stream).random(shape))
    return torch.from_numpy(np.stack(parts))


def sampleable(objective: Objective) -> Loss:
    """The loss, if targets can be drawn from it.

    Raises
    ------
    InputError
        If the loss is no likelihood; says which curvature can be used.
    """
    loss = objective.loss
    if not isinstance(loss, Loss) or not loss.is_likelihood:
        other = "curvature.GGN() or curvature.EmpiricalFisher()" if isinstance(loss, Loss) else "EmpiricalFisher()"
        raise InputError(
            f"curvature: {type(loss).__name__} is no negative log-likelihood, so no targets can be drawn from the "
            f"model for a Fisher matrix; use {other}"
        )
    return loss
