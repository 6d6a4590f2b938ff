"""Curvature as rows: AᵀA + diag(λ), where every row is J_iᵀu of an example i and a cotangent u of its outputs.

Three choices of u. *Empirical*: the gradient of the example's own loss. *Sampled*: the gradient of the loss of a target
drawn from the model itself, so that the mean over draws is the Fisher matrix. *Spectral*: √ω·v for eigenvalues ω and
eigenvectors v of the loss's Hessian in the outputs, whose sum over all is the GGN exactly; the largest ω alone carry
most of its trace. (In the eigenbasis the rows of an example are orthogonal in the outputs: the classes' own rows
√p_c(e_c − p) are nearly parallel where two classes share the probability, so as many of them carry less.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from upweight.data import Batch, batch_length
from upweight.gradients import FactoredFunction, Factors
from upweight.gradients.autograd import output_derivatives
from upweight.losses import CrossEntropy, Loss, split_batch, with_targets
from upweight.messages import InputError
from upweight.objective import Objective

LARGEST_OUTPUT = 512
"""Numbers of an example's output up to which its loss's Hessian is decomposed."""
NEGLIGIBLE = 1e-9
"""Share of the largest eigenvalue below which a row is rounding."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Which rows make the matrix.

    Attributes
    ----------
    positions
        Training example of each row, ``[rows]``, in increasing order.
    cotangents
        u of each row ``[rows, …outputs]``, weighted so that Σ rows rowsᵀ is the curvature without the penalty; None:
        the gradient of the example's own loss times ``weights``.
    weights
        ``[rows]``, used where there are no cotangents.
    share
        Share of the trace in the outputs that the kept rows carry.
    name
        The matrix in words.
    """

    objective: Objective
    positions: Int[Tensor, " rows"]
    cotangents: Tensor | None
    weights: Float[Tensor, " rows"]
    share: float
    name: str

    def __len__(self) -> int:
        return len(self.positions)

    def factors(self, chosen: Tensor, *, compacted: bool = False) -> Factors:
        """Some of the rows, by their numbers, as factors (``compacted``: in the form that holds fewest numbers)."""
        objective = self.objective
        function = factored(objective)
        positions = self.positions[chosen]
        batch = objective.data.take(positions)
        if self.cotangents is None:
            found = function.factors(objective.params, batch, compacted=compacted)
            return found.weighted(self.weights[chosen])
        return function.factors(objective.params, batch, self.cotangents[chosen], compacted=compacted)

    def blocks(self, size: int, *, compacted: bool = False) -> Iterator[tuple[Tensor, Factors]]:
        """All rows, in blocks of at most ``size`` and of what a pass of the objective may hold."""
        for chosen in torch.arange(len(self)).split(min(size, self.objective.pass_rows)):
            yield chosen, self.factors(chosen, compacted=compacted)


def factored(objective: Objective) -> FactoredFunction:
    """The objective's function by factors, made where it has another form.

    Raises
    ------
    InputError
        If no factors can be read off the model.
    """
    if objective.n < 2:
        raise InputError("data: curvature by rows needs two or more training examples")
    return objective.factored


def empirical(objective: Objective) -> Rows:
    """√(w_i/n)·∇ℓ_i of every example: the empirical Fisher."""
    weights = (objective.weights / objective.n).sqrt()
    return Rows(objective, torch.arange(objective.n), None, weights, 1.0, "empirical Fisher")


def sampled(objective: Objective, samples: int, seed: int) -> Rows:
    """Gradients of the losses of targets drawn from the model: ``samples`` of every example.

    The draw of an example depends on the seed and its position alone, so batching changes nothing.
    """
    loss = sampleable(objective)
    if samples < 1:
        raise InputError(f"samples: must be at least 1; got {samples}")
    parts = []
    scale = (objective.weights / (objective.n * samples)).sqrt()
    for index, batch in objective.batches():
        outputs = outputs_of(objective, batch)
        draws = []
        for draw in range(samples):
            uniform = uniforms(index, loss.draws(outputs), outputs, seed, draw)
            labelled = with_targets(batch, loss.sample(outputs, batch, uniform))
            slope = slopes(objective, outputs, labelled)
            draws.append(slope * scale[index].reshape(-1, *[1] * (slope.dim() - 1)))
        parts.append(torch.stack(draws, dim=1).flatten(0, 1))
    positions = torch.arange(objective.n).repeat_interleave(samples)
    words = f"Fisher ({samples} sampled target{'s' if samples > 1 else ''} per example)"
    return Rows(objective, positions, torch.cat(parts), objective.weights.new_ones(len(positions)), 1.0, words)


def spectral(objective: Objective, largest: int | None) -> Rows:
    """Eigenvectors of the loss's Hessian in each example's outputs: the GGN, or its ``largest`` rows."""
    values = torch.cat(
        [output_spectrum(objective, batch, objective.weights[index])[0] for index, batch in objective.batches()]
    )
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
    for index, batch in objective.batches():
        here = wanted[index.to(wanted.device)]
        if not here.any():
            continue
        spectrum, vectors, shape = output_spectrum(objective, batch, objective.weights[index])
        example, number = here.nonzero(as_tuple=True)
        parts.append(cotangents(spectrum, vectors, example, number, shape) / objective.n**0.5)
        positions.append(index[example.cpu()])
    share = float(flat[chosen].sum() / flat.clamp_min(0).sum())
    words = "GGN" if kept == needed else f"GGN of {kept:,} rows, {share:.1%} of its trace"
    ones = objective.weights.new_ones(kept)
    return Rows(objective, torch.cat(positions), torch.cat(parts).to(objective.dtype), ones, share, words)


def trace_share(objective: Objective, largest: int) -> float:
    """Share of the GGN's trace in the outputs that its largest rows carry; one forward pass."""
    batches = objective.batches()
    values = torch.cat([output_spectrum(objective, batch, objective.weights[i])[0].flatten() for i, batch in batches])
    return float(values.topk(min(largest, len(values))).values.sum() / values.sum())


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
        p = outputs.double().softmax(-1).reshape(count, -1, classes)
        kept = (split_batch(batch)[1] != loss.ignore_index).reshape(count, -1)
        matrices = (torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)) * kept[:, :, None, None]
    else:
        flat = outputs.flatten(1)
        if flat.shape[1] > LARGEST_OUTPUT:
            raise InputError(
                f"curvature: an example has {flat.shape[1]:,} outputs; rows of the GGN are made for up to "
                f"{LARGEST_OUTPUT}. Use curvature.Fisher(samples=1)"
            )
        assert isinstance(loss, Loss)
        _, curvature = output_derivatives(lambda z: loss.of_outputs(z.reshape(outputs.shape), batch), flat)
        matrices = curvature.double()[:, None]
    if matrices.shape[-1] > LARGEST_OUTPUT:
        raise InputError(
            f"curvature: an example has {matrices.shape[-1]:,} outputs a place; rows of the GGN are made for up to "
            f"{LARGEST_OUTPUT}. Use curvature.Fisher(samples=1)"
        )
    values, vectors = torch.linalg.eigh(matrices)
    values = values.clamp_min(0) * weights.double()[:, None, None]
    return values.flatten(1), vectors, outputs.shape


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
    function = factored(objective)
    with torch.no_grad():
        return function.outputs(objective.params, batch)


def slopes(objective: Objective, outputs: Tensor, batch: Batch) -> Tensor:
    """∂ℓ/∂outputs for the targets of the batch, in the shape of the outputs."""
    loss = objective.loss
    assert isinstance(loss, Loss)
    with torch.enable_grad():
        point = outputs.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss.of_outputs(point, batch).sum(), point)
    return slope


def uniforms(index: Tensor, shape: tuple[int, ...], like: Tensor, seed: int, draw: int) -> Tensor:
    """Random numbers in [0, 1), an example's own: they depend on the seed, the draw and its position alone.

    By a counter-based generator, where seed and draw are the key and the position is the counter.
    """
    parts = []
    for position in index.tolist():
        stream = np.random.Philox(key=[seed, draw], counter=[0, position, 0, 0])
        parts.append(np.random.Generator(stream).random(shape))
    return torch.from_numpy(np.stack(parts)).to(like.device)


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
