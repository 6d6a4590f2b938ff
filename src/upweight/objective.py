"""What was minimised: R(θ) = (1/n) Σ w_i ℓ_i(θ) + ½ Σ_k λ_k θ_k².

An objective is a `Problem`, the facts, and an `Engine`, the passes over its data. The user's model is copied when it is
made, and the copy alone is run: what becomes of the model afterwards (training on, another mode, other buffers) changes
nothing here, and nothing here touches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from upweight import kinds, scalars
from upweight.checks.forms import refuse_other_form
from upweight.checks.read import Arguments, problem_of, validated
from upweight.data import ArrayData, Batch, Data, MapData, as_data, is_list_of_arrays
from upweight.engine import Budget, Engine
from upweight.engine.judged import judged
from upweight.engine.said import say_what_is_slow
from upweight.engine.stationarity import Stationarity
from upweight.errors import InputError
from upweight.forward import Forward, words
from upweight.gradients import ExampleFunction
from upweight.gradients.coverage import Coverage, coverage
from upweight.kept import copied, random_states_kept
from upweight.losses import AnyLoss
from upweight.parameters import Layout, Selection
from upweight.problem import Problem
from upweight.select import Rule, Subset

COVERAGE_EXAMPLES = 32


class Objective:
    """A trained model with what it was trained to minimise.

    Parameters
    ----------
    model
        A trained ``nn.Module``, in eval mode if it has dropout or batch-norm; of a compiled or parallel one what is
        within. It is copied as it is now, parameters held fixed and buffers included; the model itself is neither run
        nor changed. One in bfloat16 or float16: see ``forward``.
    loss
        One of `upweight.losses`, or a function ``(model, batch) -> [batch]`` of one value per example. torch's
        ``nn.CrossEntropyLoss``, ``nn.BCEWithLogitsLoss`` and ``nn.MSELoss`` are taken with their options, so that R
        without penalty is their mean over the training data (see `upweight.losses.torch_losses` for ``reduction``).
        A function that has the values of one of `upweight.losses`, times a number, on all training examples and at
        random outputs is taken as that loss, so that both have the same curvature; ``losses.Function(function)`` is
        left as it is.
    data
        Training examples: a tuple or dict of arrays, any map-style dataset, a Hugging Face dataset, or a
        ``DataLoader``, of which dataset, collate function and batch size are taken, and order and ``drop_last`` left
        aside (``notes`` say so).
    l2
        λ of the penalty ½λ‖θ‖²; a mapping from parameter names or patterns to λ penalises those only
        (``{"weight": 0.01}`` leaves biases out).
    parameters
        The parameters training changed (default: all with ``requires_grad``): names, patterns, the parameters
        themselves or modules of the model (``model.head``, ``model.head.parameters()``, an optimiser's list),
        ``"adapters"`` (LoRA's and others'), or a function ``(name, parameter) -> bool``. The others are held fixed. A
        subset of entries, or a rule for one (`upweight.select`), makes θ of these entries alone.
    weights
        Weight w_i of each example's loss, ``[train]`` (default 1).
    ids
        Name of each training example, unique (default: its position). Names that aren't whole numbers are accepted
        wherever positions are: ``train=["doc-0001"]``, ``group``, ``leave_out``.
    class_names
        What classes 0, 1, … are called in results (default: their numbers).
    batch_size
        Examples per pass (default: chosen by the size of an example). Never changes a result.
    num_workers, collate
        As for ``torch.utils.data.DataLoader``, for map-style datasets.
    forward
        Where the model is in bfloat16 or float16: ``"float32"``, its copy is computed in float32, with the same
        numbers (a frozen base under adapters too); ``"own"``, the forward pass and the backward pass to the layers'
        outputs run in its own 16 bits. θ, layers' inputs and output gradients as they are taken, curvature and scores
        are float32 in both, and the report of an attribution says how far a sample of scores keeps its order. What
        would differentiate such a model twice, or minimise it, is refused.
    columns
        What is shown of training examples, by name, one value for each: ``{"text": texts}``, a data frame or a Hugging
        Face dataset. No part of the objective; for tables of results.
    notes
        Sentences to be kept with it: how the training was read.
    budget
        What a pass over the data may hold, and what may be kept between passes (default: `Budget()`). Never changes a
        result.
    validate
        Run the model once over the data and refuse losses that aren't finite, labels out of range, and losses
        that are already reduced.

    Raises
    ------
    InputError
        If anything of the above isn't so; the message names argument, value and mend.
    """

    problem: Problem
    """The facts."""
    engine: Engine
    """The passes over the data, and what is kept between them."""

    @random_states_kept()
    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        data: Any,
        *,
        l2: float | Mapping[str, float] = 0.0,
        parameters: Selection | Subset | Rule = None,
        weights: Any = None,
        ids: Sequence[Any] | np.ndarray | None = None,
        class_names: Sequence[str] | None = None,
        batch_size: int | None = None,
        num_workers: int = 0,
        collate: Callable[[list[Any]], Batch] | None = None,
        forward: Forward = "float32",
        columns: Any = None,
        notes: Sequence[str] = (),
        budget: Budget | None = None,
        validate: bool = True,
    ):
        scalars.flag("validate", validate)
        if budget is not None:
            scalars.instance("budget", budget, Budget, "upweight.Budget(…)")
        if isinstance(parameters, Rule):
            everything = Objective(
                model, loss, data, weights=weights, num_workers=num_workers, collate=collate, forward=forward
            )
            parameters = parameters.of(everything)
        given = Arguments(
            *(model, loss, data, l2, parameters, weights, ids, class_names, batch_size, num_workers, collate, forward),
            columns={} if columns is None else columns,
            notes=notes,
        )
        problem = problem_of(given)
        sizes = Engine(problem, budget).sizes
        self._begin(validated(problem, loss, sizes) if validate else problem, budget)

    def _begin(self, problem: Problem, budget: Budget | None) -> None:
        object.__setattr__(self, "problem", problem)
        object.__setattr__(self, "engine", Engine(problem, budget))
        say_what_is_slow(self.engine)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (hasattr(Objective, name) or name in Objective.__annotations__):
            super().__setattr__(name, value)  # a subclass's own
            return
        raise AttributeError(f"an objective doesn't change; objective.replace({name}=…) gives another")

    @property
    def model(self) -> nn.Module:
        """The copy of the model, in the state it was handed in; no pass leaves anything in it."""
        return self.problem.model

    @property
    def layout(self) -> Layout:
        """Which parameters make up θ, in order."""
        return self.problem.layout

    @property
    def params(self) -> Float[Tensor, " p"]:
        """The trained θ."""
        return self.problem.params

    @property
    def loss(self) -> AnyLoss:
        """The per-example loss."""
        return self.problem.loss

    @property
    def data(self) -> Data:
        """The training examples."""
        return self.problem.data

    @property
    def l2(self) -> Float[Tensor, " p"]:
        """λ of each entry of θ."""
        return self.problem.l2

    @property
    def weights(self) -> Float[Tensor, " train"]:
        """w_i of each training example."""
        return self.problem.weights

    @property
    def ids(self) -> np.ndarray:
        """Names of the training examples."""
        return self.problem.ids

    @property
    def columns(self) -> Mapping[str, Any]:
        """What is shown of training examples, by name: ``attribution.top(5).to_pandas(objective.columns)``."""
        return self.problem.columns

    @property
    def notes(self) -> tuple[str, ...]:
        """How the training was read, in sentences: what of it is in the objective, and what is left aside."""
        return self.problem.notes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of classes 0, 1, …"""
        return self.problem.class_names

    @property
    def batch_size(self) -> int | None:
        """Examples per pass, where the user says."""
        return self.problem.batch_size

    @property
    def num_workers(self) -> int:
        """Processes that read a map-style dataset."""
        return self.problem.num_workers

    @property
    def n(self) -> int:
        """Number of training examples."""
        return self.problem.n

    @property
    def p(self) -> int:
        """Number of parameters in θ."""
        return self.problem.p

    @property
    def dtype(self) -> torch.dtype:
        """Precision of θ, and so of every result."""
        return self.problem.dtype

    @property
    def device(self) -> torch.device:
        """Where θ lives and the work is done."""
        return self.problem.device

    @property
    def function(self) -> ExampleFunction:
        """The loss with its derivatives in θ; its ``plan`` says how gradients are made, and which aren't factored."""
        return self.engine.function

    @property
    def is_linear(self) -> bool:
        """Whether the outputs are linear in θ, so that a convex loss makes R convex."""
        return self.engine.is_linear

    def __repr__(self) -> str:
        penalty = "none" if not self.l2.any() else f"{self.l2[self.l2 > 0].unique().tolist()}"
        half = "" if self.problem.half is None else f", its forward pass in {words(self.problem.half)}"
        return (
            f"Objective({type(self.model).__name__}, {type(self.loss).__name__}, n={self.n:,}, p={self.p:,}, "
            f"l2={penalty}, {str(self.dtype).removeprefix('torch.')} on {self.device}{half})"
        )

    def batches(self, indices: Any = None) -> Iterator[tuple[Int[Tensor, " batch"], Batch]]:
        """Training examples batch by batch: pairs of positions and batch, in order."""
        return self.engine.batches(None if indices is None else self.positions(indices))

    def queries(self, queries: Any) -> Data:
        """Examples in the same form as the training data, read and checked like them."""
        if isinstance(queries, ArrayData | MapData):
            return queries.to(self.dtype, self.device)
        collate = getattr(self.data, "collate", None)
        if is_list_of_arrays(queries) and not isinstance(self.data.take([0]), Tensor):
            queries = tuple(queries)  # [x, y]: a training example is no bare array, so a query isn't either
        data = as_data(queries, name="queries", num_workers=self.num_workers, collate=collate)
        data = data.to(self.dtype, self.device)
        refuse_other_form(self.loss, self.model, self.data, data, "queries")
        return data

    def positions(self, indices: Any, argument: str = "indices") -> Int[Tensor, " k"]:
        """Positions of training examples, checked.

        Parameters
        ----------
        indices
            A list of positions, a mask, or a list of ids. Whole numbers are always positions, also where ids are whole
            numbers; anything else (``["doc-0001"]``) is an id.
        argument
            What they are called where they are given.

        Raises
        ------
        InputError
            If a position is out of range, an id unknown, one of them repeated, or there are none.
        """
        return self.problem.positions(indices, argument)

    def theta(self, params: Any = None) -> Float[Tensor, " p"]:
        """The trained θ, or other parameters, checked, in its precision and place."""
        return self.problem.theta(params)

    @random_states_kept()
    def losses(self, data: Any = None, params: Tensor | None = None) -> Float[Tensor, " examples"]:
        """The loss of each example (of the training data, or of ``data``), unweighted, without the penalty."""
        return self.engine.losses(self.theta(params), None if data is None else self.queries(data))

    @random_states_kept()
    def outputs(self, data: Any = None) -> Tensor:
        """The model's outputs on examples, as the loss sees them."""
        return self.engine.outputs(None if data is None else self.queries(data))

    def penalty(self, params: Float[Tensor, "*k p"]) -> Float[Tensor, "*k"]:
        """½ Σ λ_k θ_k²."""
        return self.problem.penalty(params)

    @random_states_kept()
    def risk(self, params: Float[Tensor, " p"] | None = None) -> float:
        """R(θ), at the trained θ or another."""
        theta = self.theta(params)
        return float((self.weights * self.losses(params=theta)).sum() / self.n + self.penalty(theta))

    @random_states_kept()
    def gradient(self, params: Float[Tensor, " p"] | None = None) -> Float[Tensor, " p"]:
        """∇R(θ), at the trained θ or another."""
        return self.risks_and_gradients(self.theta(params)[None])[1][0]

    def risks_and_gradients(self, params: Float[Tensor, "k p"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        """R and ∇R at k parameter vectors, in one pass over the data."""
        return self.engine.risks_and_gradients(params)

    def example_gradients(self, indices: Any = None) -> Iterator[tuple[Tensor, Float[Tensor, "batch p"]]]:
        """Pairs of positions and gradients w_i ∇ℓ_i, in blocks of bounded size."""
        return self.engine.gradients(None if indices is None else self.positions(indices))

    @random_states_kept()
    def inner(self, vectors: Float[Tensor, "k p"], indices: Any = None) -> Float[Tensor, "k train"]:
        """Inner products of k vectors with the gradients w_i ∇ℓ_i of training examples; one pass over them.

        Parameters
        ----------
        vectors
            ``[k, p]``, in the objective's precision.
        indices
            Positions, a mask or ids of training examples (default: all).

        Raises
        ------
        InputError
            If a vector hasn't p entries, or indices are impossible.
        """
        kinds.check(Objective.inner, locals())
        if vectors.shape[1] != self.p:
            raise InputError(f"vectors: give rows [k, {self.p}]; got {tuple(vectors.shape)}")
        return self.engine.inner(vectors, None if indices is None else self.positions(indices))

    @random_states_kept()
    def stationarity(self) -> Stationarity:
        """‖∇R(θ)‖ beside the noise of per-example gradients; one pass over the data.

        Raises
        ------
        InputError
            If a gradient is NaN or infinite; names the training example.

        Warns
        -----
        KinkWarning
            If one is finite but enormous because of an operation that is nearly undefined there.
        """
        return judged(self.engine, self.engine.moments())

    @random_states_kept()
    def coverage(self) -> Coverage:
        """Share of the model's parameters, and of its gradient's norm, that an attribution speaks for.

        Looks at the gradient of the mean loss over a few training examples, frozen parameters' included.
        """
        batch = self.data.take(torch.linspace(0, self.n - 1, min(self.n, COVERAGE_EXAMPLES)).long())
        return coverage(self.model, self.loss, self.engine.function, self.params, batch)

    def replace(self, **changes: Any) -> Objective:
        """The same objective with other arguments (as for the constructor), which aren't looked at by a pass.

        Weights and ids belong to the examples: those that were given go no further than to as many others.
        """
        budget = changes.pop("budget", self.engine.budget)
        if changes.pop("validate", False) or isinstance(changes.get("parameters"), Rule):
            return Objective(**{**vars(self._given), **changes}, budget=budget)
        if "data" in changes:
            self._refuse_fewer(changes)
            changes = {"columns": {}, "notes": (), **changes}  # those of the examples that were
        given = replace(self._given, **changes)
        return self._made(given, budget, is_own=given.model is self.model)

    @property
    def _given(self) -> Arguments:
        """The arguments that give this objective again."""
        problem = self.problem
        return Arguments(
            model=problem.model,
            loss=problem.loss,
            data=problem.data,
            l2=problem.given.l2,
            parameters=list(problem.layout.names),
            weights=problem.weights if problem.given.weights else None,
            ids=problem.ids if problem.given.ids else None,
            class_names=problem.class_names,
            batch_size=problem.batch_size,
            num_workers=problem.num_workers,
            collate=problem.collate,
            forward=problem.forward,
            columns=problem.columns,
            notes=problem.notes,
        )

    @staticmethod
    @random_states_kept()
    def _made(given: Arguments, budget: Budget | None, *, is_own: bool) -> Objective:
        """An objective whose examples aren't looked at; ``is_own``: nobody else has the model."""
        other = object.__new__(Objective)
        other._begin(problem_of(given, is_own=is_own), budget)
        return other

    def _refuse_fewer(self, changes: Mapping[str, Any]) -> None:
        """Refuse other data where weights or ids were given for so many."""
        data = as_data(
            changes["data"],
            num_workers=changes.get("num_workers", self.num_workers),
            collate=changes.get("collate", self.problem.collate),
        )
        for name in ("weights", "ids"):
            if getattr(self.problem.given, name) and name not in changes and len(data) != self.n:
                raise InputError(
                    f"data: {len(data)} examples, and the {name} of this objective are of {self.n}; give {name}= too"
                )

    def at(self, params: Float[Tensor, " p"]) -> Objective:
        """The same objective with the model at other parameters (in a copy of it)."""
        theta, model = self.theta(params), copied(self.model)
        target = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self.layout.unflatten(theta).items():
                target[name].copy_(value)
        other = self._made(replace(self._given, model=model), self.engine.budget, is_own=True)
        if other.problem.half is not None:  # θ has more digits than the model that it is rounded into
            other._begin(replace(other.problem, params=theta), self.engine.budget)
        return other

    def to(self, dtype: torch.dtype) -> Objective:
        """The same objective in another precision, with a copy of the model; itself if it is that already."""
        scalars.precision("dtype", dtype)
        if dtype == self.dtype:
            return self
        model = copied(self.model).to(dtype)
        return self._made(replace(self._given, model=model), self.engine.budget, is_own=True)
