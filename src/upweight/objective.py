"""What was minimised: R(θ) = (1/n) Σ w_i ℓ_i(θ) + ½ Σ_k λ_k θ_k².

The objective copies θ when it is made; the user's model is only ever called with substituted parameters,
so its parameters, gradients, hooks and mode stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from upweight import kinds, positions, refusals, scalars
from upweight.arguments import class_names as checked_class_names
from upweight.arguments import (
    example_ids,
    example_weights,
    penalties,
    refuse_bad_loss,
    refuse_meta,
    refuse_training_mode,
)
from upweight.data import ArrayData, Batch, Data, MapData, as_data, is_list_of_arrays
from upweight.forms import refuse_other_form, refuse_probabilities
from upweight.gradients import (
    ExampleFunction,
    FactoredFunction,
    Factors,
    LinearFactors,
    LinearFunction,
    example_function,
)
from upweight.gradients.autograd import called, substituted
from upweight.gradients.coverage import Coverage, coverage
from upweight.kept import copied, random_states_kept
from upweight.kinks import warn_of_enormous_gradients
from upweight.losses import AnyLoss, Function, Loss, as_loss, as_split
from upweight.messages import InputError
from upweight.own_loss import refuse_another_loss
from upweight.parameters import Layout, Selection, select
from upweight.per_example import refuse_cut_off
from upweight.recognised import recognised
from upweight.select import Rule, Subset
from upweight.stationarity import Moments, Stationarity

GRADIENT_ELEMENTS = 2**25
"""Numbers in a block of materialised per-example gradients."""
COVERAGE_EXAMPLES = 32
PASS_ELEMENTS = 2**23
"""Numbers in the factors of a batch's largest operation."""
FACTOR_ELEMENTS = 2**27
"""Numbers in the factors of a linear model that are kept between passes (1 GiB in float64)."""


class Objective:
    """A trained model with what it was trained to minimise.

    Parameters
    ----------
    model
        A trained ``nn.Module``, in eval mode if it has dropout or batch-norm. It is not changed.
    loss
        One of `upweight.losses`, or a function ``(model, batch) -> [batch]`` of one value per example. torch's
        ``nn.CrossEntropyLoss``, ``nn.BCEWithLogitsLoss`` and ``nn.MSELoss`` are taken with their options, so that R
        without penalty is their mean over the training data (see `upweight.losses.torch_losses` for ``reduction``).
        A function that has the values of one of `upweight.losses`, times a number, on all training examples and at
        random outputs is taken as that loss, so that both have the same curvature; ``losses.Function(function)`` is
        left as it is.
    data
        Training examples: a tuple or dict of arrays, any map-style dataset, a Hugging Face dataset.
    l2
        λ of the penalty ½λ‖θ‖²; a mapping from parameter names or patterns to λ penalises those only
        (``{"weight": 0.01}`` leaves biases out).
    parameters
        The parameters training changed (default: all with ``requires_grad``): names, patterns, the parameters
        themselves or modules of the model (``model.head``, ``model.head.parameters()``, an optimiser's list), or a
        function ``(name, parameter) -> bool``. The others are held fixed. A subset of entries, or a rule for one
        (`upweight.select`), makes θ of these entries alone.
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
    validate
        Run the model once over the data and refuse losses that aren't finite, labels out of range, and losses
        that are already reduced.

    Raises
    ------
    InputError
        If anything of the above isn't so; the message names argument, value and mend.
    """

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
        validate: bool = True,
    ):
        if not isinstance(model, nn.Module):
            raise InputError(
                f"model: got {type(model).__name__}; give a torch.nn.Module (for scikit-learn estimators use "
                "upweight.from_estimator)"
            )
        refuse_meta(model)
        if torch.is_inference_mode_enabled():
            raise InputError("model: nothing can be differentiated under torch.inference_mode(); leave it for this")
        batch_size = None if batch_size is None else scalars.whole("batch_size", batch_size)
        num_workers = scalars.whole("num_workers", num_workers, 0)
        scalars.flag("validate", validate)
        if collate is not None:
            scalars.function("collate", collate, "from a list of examples to a batch")
        refuse_training_mode(model)
        if isinstance(parameters, Rule):
            everything = Objective(model, loss, data, weights=weights, num_workers=num_workers, collate=collate)
            parameters = parameters.of(everything)
        if isinstance(parameters, Subset):
            model, parameters, l2 = parameters.restricted(model, l2)
        self.model = model
        self.layout: Layout = select(model, parameters)
        self._requested_l2 = l2
        named = dict(model.named_parameters())
        precisions = sorted({str(named[name].dtype) for name in self.layout.names})
        if len(precisions) > 1:
            raise InputError(
                f"model: parameters are of {' and '.join(precisions)}; θ has one precision: give "
                "copy.deepcopy(model).float(), or hold some fixed by parameters=…"
            )
        self.params: Float[Tensor, " p"] = self.layout.flatten(named).detach().clone()
        if not self.params.is_floating_point():
            raise InputError(f"model: parameters are {self.params.dtype}; influence needs floating point")
        if self.params.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"model: parameters are {self.params.dtype}, in which curvature can't be inverted; give "
                "copy.deepcopy(model).float(), which predicts the same"
            )
        self.data: Data = as_data(data, num_workers=num_workers, collate=collate).to(self.dtype, self.device)
        self.loss: AnyLoss = as_loss(loss, self.data)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.l2: Float[Tensor, " p"] = penalties(l2, self.layout, self.params, model)
        self.weights: Float[Tensor, " train"] = example_weights(weights, self.n, self.params)
        self.ids = example_ids(ids, self.n)
        self._named = {"weights": weights is not None, "ids": ids is not None}
        self.collate = collate
        self.class_names = checked_class_names(class_names)
        if validate:
            pair = self.data.take(list(range(min(self.n, 2))))
            refuse_bad_loss(self.loss, model, pair)
            refuse_probabilities(self.loss, model, pair)
            refuse_another_loss(self.loss, model, pair)
            refuse_cut_off("loss", model, self.loss, self.layout, self.params, pair)
            like = None
            if isinstance(self.loss, Function) and self.loss is not loss:
                like = recognised(self.loss, model, self.data)
            if refusals.refuse_bad_values(self, like) and like is not None:
                self.loss = like
        self.function: ExampleFunction = self._bound(self.loss)
        refusals.say_what_is_slow(self)
        self.output_spectra: Any = None  # kept for `upweight.curvature.rows`: they depend on θ and the data alone

    @property
    def n(self) -> int:
        """Number of training examples."""
        return len(self.data)

    @property
    def p(self) -> int:
        """Number of parameters in θ."""
        return self.layout.p

    @property
    def dtype(self) -> torch.dtype:
        """Precision of θ, and so of every result."""
        return self.params.dtype

    @property
    def device(self) -> torch.device:
        """Where θ lives and the work is done."""
        return self.params.device

    @property
    def is_linear(self) -> bool:
        """Whether the outputs are linear in θ, so that a convex loss makes R convex."""
        return isinstance(self.function, LinearFunction)

    def __repr__(self) -> str:
        penalty = "none" if not self.l2.any() else f"{self.l2[self.l2 > 0].unique().tolist()}"
        return (
            f"Objective({type(self.model).__name__}, {type(self.loss).__name__}, n={self.n:,}, p={self.p:,}, "
            f"l2={penalty}, {str(self.dtype).removeprefix('torch.')} on {self.device})"
        )

    def batches(self, indices: Any = None) -> Iterator[tuple[Int[Tensor, " batch"], Batch]]:
        """Training examples batch by batch: pairs of positions and batch, in order."""
        return self.data.batches(None if indices is None else self.positions(indices), self.batch_size)

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
        return positions.read(indices, self.ids, argument)

    def theta(self, params: Any = None) -> Float[Tensor, " p"]:
        """The trained θ, or other parameters, checked, in its precision and place."""
        if params is None:
            return self.params
        if not isinstance(params, Tensor) or params.shape != (self.p,):
            got = tuple(params.shape) if isinstance(params, Tensor) else scalars.shown(params)
            raise InputError(f"params: give a tensor of p={self.p:,} numbers; got {got}")
        return params.to(self.params)

    @random_states_kept()
    def losses(self, data: Any = None, params: Tensor | None = None) -> Float[Tensor, " examples"]:
        """The loss of each example (of the training data, or of ``data``), unweighted, without the penalty."""
        source = self.data if data is None else self.queries(data)
        theta = self.theta(params)
        return torch.cat([self.function.values(theta, batch) for _, batch in source.batches(None, self.batch_size)])

    @random_states_kept()
    def outputs(self, data: Any = None) -> Tensor:
        """The model's outputs on examples, as the loss sees them."""
        source = self.data if data is None else self.queries(data)
        outputs_of = substituted(self.model, as_split(self.loss).outputs)
        named = self.layout.unflatten(self.params)
        with torch.no_grad():
            return torch.cat([outputs_of(named, batch) for _, batch in source.batches(None, self.batch_size)])

    def penalty(self, params: Float[Tensor, "*k p"]) -> Float[Tensor, "*k"]:
        """½ Σ λ_k θ_k²."""
        return 0.5 * (self.l2 * params**2).sum(-1)

    @random_states_kept()
    def risk(self, params: Float[Tensor, " p"] | None = None) -> float:
        """R(θ), at the trained θ or another."""
        theta = self.theta(params)
        return float((self.weights * self.losses(params=theta)).sum() / self.n + self.penalty(theta))

    @random_states_kept()
    def gradient(self, params: Float[Tensor, " p"] | None = None) -> Float[Tensor, " p"]:
        """∇R(θ), at the trained θ or another."""
        theta = self.theta(params)
        return self.risks_and_gradients(theta[None])[1][0]

    def risks_and_gradients(self, params: Float[Tensor, "k p"]) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"]]:
        """R and ∇R at k parameter vectors, in one pass over the data."""
        risks = torch.zeros(len(params), dtype=self.dtype, device=self.device)
        grads = torch.zeros_like(params)
        for index, batch in self.batches():
            totals, sums = self.function.gradients(params, batch, self.weights[index])
            risks += totals
            grads += sums
        return risks / self.n + self.penalty(params), grads / self.n + self.l2 * params

    def block_rows(self, numbers: int) -> int:
        """Examples per block where each takes ``numbers`` numbers: bounded by memory, and by a pass's own batch."""
        return min(max(GRADIENT_ELEMENTS // numbers, 1), self.batch_size or self.data.rows)

    @property
    def pass_rows(self) -> int:
        """Examples per pass that reads factors of a model's operations: the largest operation's fit the memory."""
        peak = self.function.peak if isinstance(self.function, FactoredFunction) else 1
        return self.batch_size or min(self.data.rows, max(PASS_ELEMENTS // peak, 8))

    def factors(self, indices: Any = None) -> Iterator[tuple[Tensor, Factors]]:
        """Pairs of positions and gradients w_i ∇ℓ_i as factors, in batches of bounded size."""
        positions = None if indices is None else self.positions(indices)
        function = self.factored
        for index, batch in self.data.batches(positions, self.pass_rows):
            yield index, function.factors(self.params, batch).weighted(self.weights[index])

    def example_gradients(self, indices: Any = None) -> Iterator[tuple[Tensor, Float[Tensor, "batch p"]]]:
        """Pairs of positions and gradients w_i ∇ℓ_i, in blocks of bounded size."""
        positions = None if indices is None else self.positions(indices)
        for index, batch in self.data.batches(positions, self.block_rows(self.p)):
            yield index, self.weights[index, None] * self.function.materialize(self.params, batch)

    def bind(self, measurement: Any) -> ExampleFunction:
        """A per-example function of (model, batch) with its derivatives in this objective's θ."""
        return self.function if measurement is self.loss else self._bound(measurement)

    def _bound(self, function: Any) -> ExampleFunction:
        return example_function(self.model, function, self.layout, self.params, self._probe())

    def _probe(self) -> Batch:
        """A few examples, spread over the data, on which derivatives are checked; a single one twice."""
        return self.data.take([0, 0] if self.n == 1 else sorted({0, self.n // 2, self.n - 1}))

    @cached_property
    @random_states_kept()
    def factored(self) -> FactoredFunction:
        """The loss's derivatives by factors of the model's operations, whatever form serves otherwise."""
        if isinstance(self.function, FactoredFunction):
            return self.function
        return FactoredFunction(self.model, self.loss, self.layout, self.params, self._probe())

    @cached_property
    @random_states_kept()
    def linear_factors(self) -> LinearFactors | None:
        """Where outputs are linear in θ and the factors fit: features, output gradients and curvatures, weighted.

        They depend on θ alone, so every product with the curvature can share them.
        """
        function = self.function
        if not isinstance(function, LinearFunction):
            return None
        numbers = self.n * (function.features_count + function.curvature_numbers)
        if numbers > FACTOR_ELEMENTS:
            return None
        parts = []
        # Held whole anyway: one batch of arrays is a view, not a copy.
        whole = self.n if isinstance(self.data, ArrayData) else self.batch_size
        for index, batch in self.data.batches(None, whole):
            features, slope, curvature = function.output_curvature(self.params, batch)
            weight = self.weights[index]
            parts.append(LinearFactors(features, weight[:, None] * slope, curvature.weighted(weight)))
        return LinearFactors.joined(parts)

    @random_states_kept()
    def inner(self, vectors: Float[Tensor, "k p"], indices: Any = None) -> Float[Tensor, "k train"]:
        """Inner products of k vectors with the gradients w_i ∇ℓ_i of training examples; one pass over them."""
        kinds.check(Objective.inner, locals())
        if vectors.shape[1] != self.p:
            raise InputError(f"vectors: give rows [k, {self.p}]; got {tuple(vectors.shape)}")
        positions = None if indices is None else self.positions(indices)
        factors, function = self.linear_factors, self.function
        if factors is not None and isinstance(function, LinearFunction):
            rows = slice(None) if positions is None else positions
            return function.contract(factors.features[rows], factors.slopes[rows], vectors)
        parts = []
        for index, batch in self.data.batches(positions, self.pass_rows):
            parts.append(self.weights[index] * self.function.inner(self.params, batch, vectors))
        return torch.cat(parts, dim=1)

    @random_states_kept()
    def stationarity(self) -> Stationarity:
        """‖∇R(θ)‖ beside the noise of per-example gradients; one pass over the data."""
        moments, factors = Moments(self.params), self.linear_factors
        if factors is not None and isinstance(self.function, LinearFunction):
            features, slopes = (torch.linalg.vector_norm(side, dim=1) for side in (factors.features, factors.slopes))
            products = self.function.vector(factors.slopes.T @ factors.features)
            moments.add(products, (features * slopes).double() ** 2)  # ‖r ⊗ a‖ = ‖r‖‖a‖
        elif isinstance(self.function, FactoredFunction):
            for _, found in self.factors():
                moments.add_factors(found)
        else:
            for _, grads in self.example_gradients():
                moments.add(grads.sum(0, dtype=torch.float64), (grads.double() ** 2).sum(1))
        return self.judged(moments)

    def judged(self, moments: Moments) -> Stationarity:
        """The same from sums over all examples that another pass has gathered on its way.

        Raises
        ------
        InputError
            If a gradient is NaN or infinite; names the training example.

        Warns
        -----
        KinkWarning
            If one is finite but enormous because of an operation that is nearly undefined there.
        """
        if not torch.isfinite(moments.total).all():
            refusals.refuse_bad_gradients(self)
        refusals.say_if_flat(self, moments)
        warn_of_enormous_gradients(self, torch.cat(moments.each))
        return moments.judged(self.n, self.l2 * self.params)

    def replace(self, **changes: Any) -> Objective:
        """The same objective with other arguments (as for the constructor)."""
        arguments: dict[str, Any] = {
            "model": self.model,
            "loss": self.loss,
            "data": self.data,
            "l2": self._requested_l2,
            "parameters": list(self.layout.names),
            "weights": self.weights,
            "ids": self.ids,
            "class_names": self.class_names,
            "batch_size": self.batch_size,
            "num_workers": self.num_workers,
            "collate": self.collate,
            "validate": False,
        }
        if "data" in changes:
            arguments |= self._for_other_data({**arguments, **changes}, changes)
        other = Objective(**{**arguments, **changes})
        if not {"model", "parameters"} & set(changes):
            other.params = self.params  # the model may have been trained further since
        return other

    def _for_other_data(self, arguments: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Weights and ids belong to the examples: those given for others go no further than to as many."""
        data = as_data(changes["data"], num_workers=arguments["num_workers"], collate=arguments["collate"])
        kept: dict[str, Any] = {}
        for name in self._named.keys() - changes.keys():
            if self._named[name] and len(data) != self.n:
                raise InputError(
                    f"data: {len(data)} examples, and the {name} of this objective are of {self.n}; give {name}= too"
                )
            kept[name] = getattr(self, name) if self._named[name] else None
        return kept

    def at(self, params: Float[Tensor, " p"]) -> Objective:
        """The same objective with the model at other parameters (in a copy of it)."""
        params = self.theta(params)
        model = copied(self.model)
        target = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in self.layout.unflatten(params).items():
                target[name].copy_(value)
        return self.replace(model=model)

    def to(self, dtype: torch.dtype) -> Objective:
        """The same objective in another precision, with a copy of the model; itself if it is that already."""
        scalars.precision("dtype", dtype)
        # By way of `at`, since the model itself may have been trained further since.
        return self if dtype == self.dtype else self.replace(model=self.at(self.params).model.to(dtype))

    @random_states_kept()
    def coverage(self) -> Coverage:
        """Share of the model's parameters, and of its gradient's norm, that an attribution speaks for.

        Looks at the gradient of the mean loss over a few training examples, frozen parameters' included.
        """
        batch = self.data.take(torch.linspace(0, self.n - 1, min(self.n, COVERAGE_EXAMPLES)).long())
        return coverage(self.model, self.loss, self.function, self.params, batch)

    def check_targets(self, batch: Batch) -> None:
        """Refuse targets that the loss isn't defined for."""
        if isinstance(self.loss, Loss):
            self.loss.check(called(self.model, self.loss.outputs, batch), batch)

    def checked_losses(self, batch: Batch) -> Float[Tensor, " batch"]:
        """The losses of a batch, its targets checked on the way: one run of the model for both."""
        if not isinstance(self.loss, Loss):
            return called(self.model, self.loss, batch)
        with torch.no_grad():
            outputs = called(self.model, self.loss.outputs, batch)
            self.loss.check(outputs, batch)
            return self.loss.of_outputs(outputs, batch)
