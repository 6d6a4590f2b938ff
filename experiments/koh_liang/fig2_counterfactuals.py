"""The models that training without one image would have given, in three senses, and the curvature they answer to.

Each piece is kept in a folder as soon as it is done, so that a run that was cut off goes on where it was.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize
from torch import Tensor, nn

import upweight as uw
from experiments import states
from experiments.koh_liang import cnn
from experiments.koh_liang.cnn_gradient import losses_and_gradients
from upweight import files
from upweight.errors import NotConvergedWarning
from upweight.progress import track

Split = cnn.Split
PIECE, ROUND, ROUNDS = 10, 25, 20
"""Models of a piece; steps of a round in the trust region, and most rounds."""
VALLEY_STEPS, VALLEY_ROUNDS, NEAR = 250, 8, 5e-4
"""Steps of a round of L-BFGS, most rounds, and ‖∇R‖ at which the trust region takes over."""
DIFFERENCE = 1e-5
"""Step of the differences of gradients in float64: its error is some 1e-5 of the third derivative, rounding 1e-11."""


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """The content of a file, made first if it isn't there."""
    if not path.exists():
        states.write(path, make())
    return torch.load(path, weights_only=True)


def longest(path: Path, seconds: dict[str, float]) -> dict[str, float]:
    """Seconds by stage, those of earlier runs where they were longer; kept in a file."""
    before = json.loads(path.read_text()) if path.exists() else {}
    found = {stage: max(spent, before.get(stage, 0.0)) for stage, spent in seconds.items()}
    files.write(path, json.dumps(found))
    return found


def query_losses(params: Float[Tensor, "k p"], query: Split) -> Float[Tensor, " k"]:
    """Loss of one test image under each model, in float64."""
    ones = torch.ones(len(params), 1, dtype=torch.float64)
    return losses_and_gradients(cnn.network(), params, query[0].double(), query[1], ones)[0]


def by_adam(
    start: cnn.Adam, data: Split, query: Split, points: Int[Tensor, " k"], steps: int, rate: float, folder: Path
) -> tuple[list[int], Float[Tensor, "times models"]]:
    """Go on training from the checkpoint, with all images and without each point, all models on the same batches.

    Returns numbers of steps, and the query's loss after them: first with all images, then without each point.
    """
    model, l2 = cnn.network(), cnn.penalty(cnn.network())
    removed, folder = torch.cat([torch.tensor([-1]), points]), folder / f"adam-{steps}"
    folder.mkdir(exist_ok=True)
    times = sorted({max(round(steps * 2.0**-k), 1) for k in range(9)} | {round(steps * k / 10) for k in range(1, 11)})
    state = cnn.read(folder / "state.pt") or start.repeated(len(removed))
    with torch.no_grad():
        for _ in track(range(start.step + steps - state.step), f"training {len(removed)} models further"):
            state = cnn.advance(model, state, data, l2, rate, removed)
            if (done := state.step - start.step) in times:
                kept(folder / f"{done}.pt", partial(query_losses, state.params, query))
            if done % max(steps // 40, 1) == 0:
                cnn.write(folder / "state.pt", state)
    return times, torch.stack([torch.load(folder / f"{done}.pt", weights_only=True) for done in times])


class Objective(uw.Objective):
    """The objective of the network, with R and ∇R by its own kernel, and ½δ‖θ − θ_s‖² where it is anchored."""

    anchor: tuple[float, Tensor] | None = None

    def risks_and_gradients(self, params: Float[Tensor, "k p"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        """R and ∇R at k parameter vectors."""
        x, y = self.data.take(list(range(self.n)))
        weights = (self.weights / self.n)[None].expand(len(params), -1)
        losses, gradients = losses_and_gradients(self.model, params, x, y, weights)
        risks, slopes = losses.to(self.dtype) + self.penalty(params), gradients.to(self.dtype) + self.l2 * params
        if self.anchor is None:
            return risks, slopes
        damping, at = self.anchor
        return risks + 0.5 * damping * ((params - at) ** 2).sum(1), slopes + damping * (params - at)

    def anchored(
        self, damping: float, at: Float[Tensor, " p"], params: Float[Tensor, " p"] | None = None, without: int = -1
    ) -> Objective:
        """R + ½δ‖θ − θ_s‖² at θ_s, or at other parameters: its Hessian is H + δI, and it has no long valleys.

        ``without``: the position of an image whose loss counts nothing; the others' weights stay 1/n.
        """
        model = self.at(at if params is None else params).model
        weights = torch.ones(self.n, dtype=self.dtype)
        if without >= 0:
            weights[without] = 0
        other = Objective(model, self.loss, self.data, l2={"*.weight": cnn.L2}, weights=weights, validate=False)
        other.anchor = (damping, at)
        return other


def to_anchored_minimum(start: Objective, damping: float, solver: Any, tolerance: float) -> dict[str, Any]:
    """θ of the minimum of R + ½δ‖θ − θ_s‖² from the checkpoint θ_s."""
    data = start.data.take(list(range(start.n)))
    walk = uw.retraining.trust_region(
        start.anchored(damping, start.params),
        tolerance=tolerance,
        solver=solver,
        curvature=Differences(data, damping),
        max_iterations=200,
    )
    return {**vars(replace(walk, objective=start)), "objective": None, "params": walk.objective.params}


def to_minimum(start: Objective, solver: Callable[[Tensor], Any], tolerance: float, folder: Path) -> dict[str, Any]:
    """θ of the minimum below the checkpoint: down the long valley by L-BFGS, then by rounds in a trust region."""
    data, theta, radius = start.data.take(list(range(start.n))), start.params, 1.0
    valley, found = [], []
    for number in track(range(VALLEY_ROUNDS), f"down the valley, {VALLEY_STEPS} steps at a time"):
        valley.append(kept(folder / f"valley-{number:02d}.pt", partial(_valley, start, theta)))
        theta = valley[-1]["params"]
        if valley[-1]["gradient_norm"] < NEAR:
            break
    for number in track(range(ROUNDS), f"to the minimum, {ROUND} steps at a time"):
        path = folder / f"minimum-{number:02d}.pt"
        found.append(kept(path, partial(_round, start, theta, radius, solver, data, tolerance)))
        theta, radius = found[-1]["params"], found[-1]["radius"]
        if found[-1]["converged"]:
            break
    return {
        "params": theta,
        "valley_risks": [each["risk"] for each in valley],
        "valley_evaluations": sum(each["evaluations"] for each in valley),
        "risks": [risk for each in found for risk in each["risks"]],
        "gradient_norms": [norm for each in found for norm in each["gradient_norms"]],
        "products": sum(each["products"] for each in found),
        "negative": [value for each in found for value in each["negative"].values()],
    }


def _valley(start: Objective, theta: Tensor) -> dict[str, Any]:
    def evaluate(params: np.ndarray) -> tuple[float, np.ndarray]:
        risks, gradients = start.risks_and_gradients(torch.from_numpy(params)[None])
        return float(risks[0]), gradients[0].numpy()

    options = {"maxiter": VALLEY_STEPS, "maxcor": 50}
    found = minimize(evaluate, theta.numpy(), jac=True, method="L-BFGS-B", options=options)
    norm = float(np.linalg.norm(found.jac))
    return {"params": torch.from_numpy(found.x), "risk": found.fun, "gradient_norm": norm, "evaluations": found.nfev}


def _round(
    start: Objective, theta: Tensor, radius: float, solver: Callable[[Tensor], Any], data: Split, tolerance: float
) -> dict[str, Any]:
    here = Objective(start.at(theta).model, start.loss, start.data, l2={"*.weight": cnn.L2}, validate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # ‖∇R‖ at the end of all rounds is in the numbers
        walk = uw.retraining.trust_region(
            here,
            tolerance=tolerance,
            solver=solver(theta),
            curvature=Differences(data),
            radius=radius,
            max_iterations=ROUND,
        )
    return {**vars(replace(walk, objective=here)), "objective": None, "params": walk.objective.params}


def leave_out(
    start: Objective,
    damping: float,
    minimum: Float[Tensor, " p"],
    points: Int[Tensor, " k"],
    solver: Any,
    tolerance: float,
    folder: Path,
) -> dict[str, Tensor]:
    """The minimum of R + ½δ‖θ − θ_s‖² without each image, from that of all: θ ``[k, p]``, ‖∇‖ and steps ``[k]``."""
    data = start.data.take(list(range(start.n)))

    def piece(chosen: Tensor) -> dict[str, Tensor]:
        found = []
        for point in chosen.tolist():
            objective = start.anchored(damping, start.params, minimum, point)
            curvature = Differences(data, damping, objective.weights)
            found.append(uw.retraining.trust_region(objective, tolerance=tolerance, solver=solver, curvature=curvature))
        return {
            "params": torch.stack([walk.objective.params for walk in found]),
            "gradient_norms": torch.tensor([walk.gradient_norms[-1] for walk in found]),
            "steps": torch.tensor([len(walk.risks) - 1 for walk in found]),
        }

    return _pieces(points, piece, folder, "leaving out")


def pbrf(
    objective: uw.Objective, points: Int[Tensor, " k"], damping: float, share: float, solver: Any, folder: Path
) -> dict[str, Tensor]:
    """`uw.retraining.pbrf` piece by piece, with a share of each image's weight taken away."""

    def piece(chosen: Tensor) -> dict[str, Tensor]:
        found = uw.retraining.pbrf(objective, chosen.tolist(), damping, -share / objective.n, solver=solver)
        return {"params": found.params, "gradient_norms": found.gradient_norms, "evaluations": found.evaluations}

    return _pieces(points, piece, folder, "proximal responses")


def _pieces(points: Tensor, piece: Callable[[Tensor], dict], folder: Path, words: str) -> dict[str, Tensor]:
    folder.mkdir(exist_ok=True)
    found = []
    for number, chosen in enumerate(track(points.split(PIECE), f"{words}, {PIECE} at a time")):
        found.append(kept(folder / f"{number:03d}.pt", lambda chosen=chosen: piece(chosen)))
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


@dataclass(frozen=True)
class Differences:
    """The Hessian of R by differences of this network's gradients in float64, in place of `uw.curvature.Hessian`."""

    data: Split
    damping: float = 0.0
    weights: Tensor | None = None
    name = "Hessian"

    def of(self, objective: uw.Objective) -> DifferencesOperator:
        """The operator at the objective's θ."""
        return DifferencesOperator(objective, self.data, self.damping, self.weights)


@dataclass(frozen=True)
class DifferencesOperator:
    """(∇R(θ + hv) − ∇R(θ))/h + δv."""

    objective: uw.Objective
    data: Split
    damping: float = 0.0
    weights: Tensor | None = None
    name = "Hessian"

    @property
    def size(self) -> int:
        """p."""
        return self.objective.p

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors."""
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        """Of the vectors."""
        return self.objective.device

    @cached_property
    def _here(self) -> Tensor:
        return self._slopes(self.objective.params.double()[None])

    def _slopes(self, params: Tensor) -> Tensor:
        x, y = self.data
        each = torch.ones(len(y), dtype=torch.float64) if self.weights is None else self.weights
        weights = (each / len(y))[None].expand(len(params), -1)
        return losses_and_gradients(cnn.network(), params, x.double(), y, weights)[1]

    def apply(self, vectors: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        """Products with rows."""
        rows = vectors.double()
        step = DIFFERENCE / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
        change = self._slopes(self.objective.params.double() + step * rows) - self._here
        return (change / step).to(vectors.dtype) + (self.objective.l2 + self.damping) * vectors

    def dense(self) -> Float[Tensor, "p p"]:
        """From p products."""
        matrix = self.apply(torch.eye(self.size, dtype=self.dtype))
        return (matrix + matrix.T) / 2


def adam_response(
    curvature: Float[Tensor, "p p"],
    query: Float[Tensor, " p"],
    gradients: Float[Tensor, "k p"],
    state: cnn.Adam,
    rate: float,
    steps: list[int],
) -> Float[Tensor, "times k"]:
    """Change of the query's loss that N steps of Adam make after gradients/n are taken out, by the quadratic model.

    With P = 1/(√v + ε) of Adam's average v of squares and A = P^½ H P^½ = U μ Uᵀ, N steps θ ← θ − ηP(Hδ − g/n) from
    δ = 0 give δ = P^½ U [(1 − (1 − ημ)^N)/μ] Uᵀ P^½ g/n. Directions with ημN ≪ 1 hardly move: they are damped.
    """
    scale = 1 / ((state.square[0] / (1 - cnn.BETAS[1] ** state.step)).sqrt() + cnn.EPSILON)
    root = scale.sqrt()
    values, basis = torch.linalg.eigh(root[:, None] * curvature * root)
    left, right = (query * root) @ basis, (gradients * root) @ basis
    filters = torch.stack([-torch.expm1(n * torch.log1p(-rate * values)) / values for n in steps])
    return (filters * left) @ right.T


def trained(params: Float[Tensor, " p"]) -> nn.Module:
    """The network at θ, in float64."""
    model = cnn.network().double()
    nn.utils.vector_to_parameters(params.double(), model.parameters())
    return model


def logarithmic(low: float, high: float, count: int) -> list[float]:
    """Numbers at equal ratios."""
    return [low * math.exp(math.log(high / low) * k / (count - 1)) for k in range(count)]
