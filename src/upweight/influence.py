"""`Influence`: an objective with an inverse of its curvature, and every quantity that follows from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, wraps
from numbers import Real
from typing import Any, Literal, TypeVar, Unpack, cast, get_args, overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from upweight import kinds, scalars
from upweight.attribution import Attribution, Magnitude, Quantity
from upweight.data import Data
from upweight.engine.exhausted import within_memory
from upweight.engine.judged import judged
from upweight.engine.stationarity import Moments, Stationarity
from upweight.errors import InputError, NotStationaryWarning, warn
from upweight.evaluation import calibration, verification
from upweight.executors import Executor, InProcess
from upweight.gradients.denormals import flushed
from upweight.inverse import Inverse, LiSSA, Solution, Solver, SolveReport, as_solver, warned
from upweight.inverse.costs import Counts
from upweight.inverse.in_metric import InMetric, InMetricSolver
from upweight.jobs import attributing, fitting, planned
from upweight.jobs.attributing import Work
from upweight.jobs.fitting import Fit
from upweight.jobs.kept import Keeping, Kept, as_kept
from upweight.kept import random_states_kept
from upweight.losses import Loss, with_targets
from upweight.measurements import Loss as LossMeasured
from upweight.measurements import Measurement, as_measurement
from upweight.objective import Objective
from upweight.planning.choice import DEFAULT_MEMORY, choose
from upweight.planning.long import LongWork
from upweight.planning.plan import DEFAULT_QUERIES, Plan, plan
from upweight.precision import Precision, products, refuse_precision
from upweight.quantities import (
    groups,
    meanings,
    perturbation,
    removal,
    replacement,
)
from upweight.quantities.attributor import Attributor
from upweight.quantities.by_token import By, ByToken
from upweight.quantities.generalized.equations import Equations
from upweight.quantities.generalized.methods import generalized
from upweight.quantities.generalized.response import Response
from upweight.quantities.magnitude import Lowest
from upweight.quantities.magnitude import judged as judged_magnitude
from upweight.quantities.measured import measured
from upweight.quantities.queries import check_measurement, query_gradients, query_names
from upweight.quantities.recorded import Recorded
from upweight.quantities.scoring import Asked, AskedOptions, OfItself, Scoring, scoring
from upweight.quantities.token_attribution import TokenAttribution
from upweight.retraining.expanded import Expansion
from upweight.store.backend import Place
from upweight.stored import Stored


class StoredOptions(AskedOptions, Keeping, total=False):
    """What is asked of scores that go into a store."""


Method = TypeVar("Method", bound=Callable[..., Any])


def _working(method: Method) -> Method:
    """A method's work: the global random states stay as they were, products have the influence's precision.

    Where the device's memory is too small, passes become smaller, and the work begins again.
    """

    @wraps(method)
    def within(self: Influence, *args: Any, **kwargs: Any) -> Any:
        def work() -> Any:
            with random_states_kept(), products(self.precision):
                return method(self, *args, **kwargs)

        return within_memory(self.objective.engine, work)

    return cast(Method, within)


class Influence(Attributor):
    """Influence of training examples on a trained model.

    Parameters
    ----------
    objective
        The trained model with what it minimised.
    inverse
        One of `upweight.inverse`, fitted or not; default: chosen, when it is first needed, from n, p, the outputs, the
        form of the model and ``memory``. ``choice`` says what was chosen and why, `plan` what it will cost.
    memory
        Bytes that the curvature may take, beyond model and data.
    at
        Where to linearise: `upweight.expansion`, made when this is. Default: at the model handed in.
    precision
        Of the factors of float32 products while it works: ``"float32"``, ``"tf32"`` (GPUs) or ``"bfloat16"`` (CPUs);
        sums are float32. Default: as torch is set. How far scores of pairs keep their order stands in the report.

    Notes
    -----
    With R the objective's risk, H its curvature and δ the damping: I_up,params(z) = −(H+δI)⁻¹∇ℓ(z) and
    I_up,loss(z, q) = −∇L(q)ᵀ(H+δI)⁻¹∇ℓ(z) (Koh & Liang 2017, eqs. 1 and 2); leaving z out is ε = −1/n.
    """

    def __init__(
        self,
        objective: Objective,
        inverse: Inverse | Solver | None = None,
        *,
        memory: int = DEFAULT_MEMORY,
        precision: Precision | None = None,
        at: Expansion | None = None,
    ):
        if not isinstance(objective, Objective):
            raise InputError(
                f"objective: got {type(objective).__name__}; give upweight.Objective(model, loss, data) or "
                "upweight.from_estimator(estimator, X, y)"
            )
        if inverse is not None and not any(kinds.KINDS[kind].test(inverse) for kind in ("Inverse", "Solver")):
            raise InputError(
                f"inverse: {scalars.shown(inverse)} is not one of upweight.inverse, such as inverse.EKFAC()"
            )
        refuse_precision(precision, objective.dtype, objective.device)
        self.objective, self.memory = objective, scalars.whole("memory, in bytes", memory)
        self.precision = precision
        self._given = inverse
        self.at = at
        if at is not None:
            scalars.instance("at", at, Expansion, "where to linearise: upweight.expansion(train)")
            self.objective = at.one(objective)

    def with_inverse(self, inverse: Inverse | Solver | None) -> Influence:
        """The same objective with another inverse, fitted or not."""
        other = Influence(self.objective, inverse, memory=self.memory, precision=self.precision)
        other.at = self.at
        return other

    def __repr__(self) -> str:
        inverse, _ = self.__dict__.get("_chosen", (self._given, ""))
        return f"Influence({self.objective!r}, {'an inverse chosen when needed' if inverse is None else repr(inverse)})"

    @cached_property
    @_working
    def _chosen(self) -> tuple[Inverse | Solver, str]:
        if self._given is not None:
            return self._given, "given"
        return choose(Counts(self.objective, DEFAULT_QUERIES, self.memory))

    @property
    def inverse(self) -> Inverse | Solver:
        """The inverse that was given, or chosen at its first use."""
        return self._chosen[0]

    @property
    def choice(self) -> str:
        """Why that inverse, in words."""
        return self._chosen[1]

    @cached_property
    def _long(self) -> LongWork:
        return LongWork(self.objective, self.inverse, self.memory)

    @cached_property
    @_working
    def solver(self) -> Solver:
        """The inverse fitted to the objective's curvature; made at first use, then kept."""
        return self._fit(lambda inverse: as_solver(inverse, self.objective))

    @_working
    def fit(self, store: Place, *, executor: Executor | None = None, resume: bool = True) -> Influence:
        """Fit the inverse by shards of training examples, in a store of its own, or read it from there; itself.

        K-FAC's and EK-FAC's sums are committed in parts, by whatever executor, and added in a fixed order: what a kill
        left is gone on with. K-FAC, EK-FAC, the diagonal and the dual are kept there as tensors, so that another
        process fits nothing anew; other inverses are fitted whole, each time.

        Parameters
        ----------
        store
            A folder, a URL that fsspec knows, or one of `upweight.store`.
        executor
            One of `upweight.executors` (default: this process).

        Raises
        ------
        InputError
            If the store is of another model, data set, inverse or version (says which, and both values), or another
            process works on it.
        upweight.files.NotWrittenError
            If the store can't be written to; what is committed stays.
        """
        kinds.check(Influence.fit, locals())
        who = InProcess() if executor is None else executor
        known = self.__dict__.get("solver")

        def fit(inverse: Inverse | Solver) -> Solver:
            return fitting.fit(self.objective, inverse, store, who, self.precision, known=known, resume=resume)

        self.__dict__["solver"] = self._fit(fit)
        return self

    def _fit(self, fit: Callable[[Inverse | Solver], Solver]) -> Solver:
        self._long.warn(1)
        try:
            with flushed():
                return fit(self.inverse)
        except (ValueError, ArithmeticError, RuntimeError):
            self.objective.stationarity()  # a NaN gradient upsets any fit: says whose it is
            raise

    @cached_property
    @_working
    def stationarity(self) -> Stationarity:
        """How near θ is to an optimum; warns when the gradient is larger than its sampling noise."""
        return _said(self.objective.stationarity())

    def _announce(self, queries: int) -> None:
        """Warn of long work ahead; the depth of a series is known once it is fitted."""
        solver = self.solver if isinstance(self.inverse, LiSSA) else self.__dict__.get("solver")
        self._long.warn(queries, solver)

    def plan(
        self,
        queries: Any = DEFAULT_QUERIES,
        *,
        stored: bool = False,
        top_k: int | None = None,
        executor: Executor | None = None,
        shard_size: int | None = None,
    ) -> Plan:
        """The stages of the work with estimated operations, memory and seconds; nothing is computed.

        Parameters
        ----------
        queries
            Their number, or the queries themselves.
        stored
            Whether scores go into a store: then also the shards, and the bytes on disk (so it is where ``top_k``,
            ``executor`` or ``shard_size`` is given, as to `attribute`).
        """
        is_single = isinstance(queries, str | Real | np.generic)
        count = scalars.whole("queries", queries) if is_single else len(self.objective.queries(queries))
        found = plan(self.objective, self.inverse, self.choice, count, self.memory)
        if not (scalars.flag("stored", stored) or top_k or executor or shard_size):
            return found
        for name, value in (("top_k", top_k), ("shard_size", shard_size)):
            if value is not None:
                scalars.whole(name, value)
        workers = 1 if executor is None else executor.workers
        n = self.objective.n
        return replace(
            found, shards=planned.shards(self.objective, count, n, top_k=top_k, size=shard_size, workers=workers)
        )

    @_working
    def solve(self, vectors: Float[Tensor, "k p"]) -> Solution:
        """(H+δI)⁻¹ of k vectors as rows; warns if the solver's tolerance was not reached."""
        kinds.check(Influence.solve, locals())
        _ = self.stationarity
        return warned(self.solver.solve(vectors))

    @overload
    def attribute(
        self, queries: Any, *, by: Literal["example"] = "example", store: None = None, **asked: Unpack[AskedOptions]
    ) -> Attribution: ...

    @overload
    def attribute(
        self, queries: Any, *, by: By, fields: Sequence[str] | None = None, **asked: Unpack[AskedOptions]
    ) -> TokenAttribution: ...

    @overload
    def attribute(self, queries: Any, *, store: Place, **both: Unpack[StoredOptions]) -> Stored: ...

    @_working
    def attribute(
        self,
        queries: Any,
        *,
        quantity: Literal["removal", "upweight"] = "removal",
        measurement: Any = None,
        train: Any = None,
        renormalize: bool = False,
        leverage_corrected: bool = False,
        newton_steps: int = 1,
        query_ids: Sequence[Any] | None = None,
        by: Literal["example"] | By = "example",
        fields: Sequence[str] | None = None,
        store: Place | None = None,
        top_k: int | None = None,
        executor: Executor | None = None,
        shard_size: int | None = None,
        resume: bool = True,
        columns: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    ) -> Attribution | TokenAttribution | Stored:
        """Scores of training examples for each query.

        Parameters
        ----------
        queries
            Examples in the same form as the training data.
        quantity
            ``removal``: predicted change of the query's measurement without the example, +(1/n)·∇L_qᵀ(H+δI)⁻¹∇ℓ_z;
            ``upweight``: I_up,loss, its −n multiple.
        measurement
            What is explained: one of `upweight.measurements`, its name, or a function ``(model, batch) -> [batch]``;
            default the loss.
        train
            Positions of the training examples to score (default: all).
        renormalize
            For removal: the mean is taken over the n−1 examples left, with λ as it is (default: weights stay 1/n).
        leverage_corrected
            For removal: divide out the example's leverage, (H − H_i/n)⁻¹ in place of H⁻¹: one Newton step on the
            objective without the example. Where outputs are linear in θ the measurement is evaluated there, whatever
            it is: exact for squared error (with an exact inverse and no damping), second order kept for other
            losses. Of networks it is linearised in θ. An example that alone determines a direction of θ (leverage 1)
            gets the score of the refit of least norm, of a network NaN, with a warning that names it. Costs a solve
            per training example and output.
        newton_steps
            With ``leverage_corrected``: steps at most on the objective without the example. More than one are taken
            of examples that move their own outputs by .03 and more, until they are at the refit; each costs nd²
            multiplications. For models whose one trained layer is a Linear at their end.
        by
            ``example``; or parts of the scores by token: of the training examples (``train-token``), of the queries
            (``query-token``), or of both (``token``). See `upweight.quantities.token_attribution.TokenAttribution`.
        fields
            With ``by``: keys of a batch that hold tokens ``[batch, time]`` (default: ``input_ids`` and
            ``decoder_input_ids``, or the first part of a batch that is looked up in a table).
        store
            A folder, a URL that fsspec knows (``s3://…``), or one of `upweight.store`: scores go there shard by shard
            of training examples, and what a kill left is gone on with by the same call, to the same numbers. The result
            is then a `upweight.Stored`, which holds nothing in memory.
        top_k
            With ``store``: keep this many of the largest, and of the smallest, scores of each query only.
        executor
            With ``store``: who does the shards, one of `upweight.executors` (default: this process).
        shard_size
            With ``store``: training examples of a shard (default: by memory).
        resume
            With ``store``: whether a job that it holds may be gone on with.
        columns
            With ``store``: what stands beside scores, by name, a value for each training example: texts, paths, labels.

        Returns
        -------
        Attribution, TokenAttribution or Stored
            Scores ``[queries, train]``.

        Raises
        ------
        InputError
            If an argument is impossible; if the store is of another model, data set, settings or version (says which,
            and both values), or another process works on it.
        upweight.files.NotWrittenError
            If the store can't be written to, or the disk is full; what is committed stays.
        """
        scalars.one_of("by", by, ("example", *get_args(By)))
        kept = as_kept(store, top_k=top_k, executor=executor, shard_size=shard_size, resume=resume, columns=columns)
        if by != "example":
            given = {"renormalize": renormalize, "leverage_corrected": leverage_corrected, "store": kept is not None}
            for name, value in {**given, "newton_steps": newton_steps != 1}.items():
                if value:
                    raise InputError(f"{name}: scores by token don't go with it; leave it, or by, out")
            return self._by_token(queries, by, quantity, measurement, train, query_ids, fields)
        if fields is not None:
            raise InputError("fields: the keys that hold tokens go with by='token' and its like; leave them out")
        asked = Asked(
            quantity=quantity,
            renormalize=renormalize,
            leverage_corrected=leverage_corrected,
            newton_steps=newton_steps,
        )
        asked.check(self.objective)
        self._refuse_metric("leverage_corrected", leverage_corrected)
        kind = as_measurement(measurement)
        data = self.objective.queries(queries)
        check_measurement(self.objective, data, kind)
        names = query_names(data, query_ids)
        positions = None if train is None else self.objective.positions(train, "train")
        if kept is not None:
            if newton_steps > 1:
                raise InputError("newton_steps: more than one aren't taken into a store; leave store out")
            return self._stored(kept, asked, data, kind, positions, names)
        self._announce(len(data))
        with flushed():
            score = scoring(self.objective, self.solver, self.solve, data, kind, asked, self.precision)
            wanted = score.gathers and positions is None and "stationarity" not in self.__dict__
            moments = Moments(self.objective.params, self.objective.layout) if wanted else None
            scores = score(positions, moments)
            if moments is not None:
                self.__dict__["stationarity"] = _said(judged(self.objective.engine, moments))
        losses = None if quantity == "upweight" else self._losses(data, kind)
        return self.result(scores, score.meaning, score.report, positions, names, losses=losses)

    def _by_token(
        self,
        queries: Any,
        by: By,
        quantity: Literal["removal", "upweight"],
        measurement: Any,
        train: Any,
        query_ids: Sequence[Any] | None,
        fields: Sequence[str] | None,
    ) -> TokenAttribution:
        objective, kind = self.objective, as_measurement(measurement)
        data = objective.queries(queries)
        positions = None if train is None else objective.positions(train, "train")
        scorer = ByToken(
            objective=objective,
            solver=self.solver,
            data=data,
            measurement=kind,
            by=by,
            factor=-1.0 if quantity == "upweight" else 1 / objective.n,
            positions=positions,
            fields=None if fields is None else tuple(fields),
        )
        check_measurement(objective, data, kind)
        scorer.check()
        sequence = self.attribute(data, quantity=quantity, measurement=kind, train=train, query_ids=query_ids)
        return TokenAttribution(sequence, scorer, self.precision)

    def _stored(
        self,
        kept: Kept,
        asked: Asked,
        data: Data | None,
        kind: Measurement,
        positions: Tensor | None,
        names: np.ndarray,
    ) -> Stored:
        """Scores by shards, in a store."""

        def make(solver: Solver) -> Scoring:
            self._announce(self.objective.n if data is None else len(data))
            if data is None:
                _ = self.stationarity
                return OfItself(self.objective, asked, solver)

            def solve(vectors: Tensor) -> Solution:
                _ = self.stationarity
                return warned(solver.solve(vectors))

            return scoring(self.objective, solver, solve, data, kind, asked, self.precision)

        word = "self-influence" if data is None else "attribution"
        return self.in_store(kept, word, make, asked, kind, data, positions, names)

    def in_store(
        self,
        kept: Kept,
        word: str,
        make: Callable[[Solver], Scoring],
        asked: Asked,
        kind: Measurement,
        data: Data | None = None,
        positions: Tensor | None = None,
        names: np.ndarray | None = None,
    ) -> Stored:
        """What a scoring says of training examples, shard by shard in a store.

        Parameters
        ----------
        word
            What it says, in a word or two.
        make
            The scoring, by the inverse as it is read from the store, so that whoever goes on has the same.
        """
        made: list[Scoring] = []

        def fitted(fit: Fit) -> Scoring:
            if not made:
                solver = self._fit(lambda inverse: fit.solver(inverse, self.__dict__.get("solver")))
                self.__dict__.setdefault("solver", solver)
                made.append(make(solver))
            return made[0]

        def outcome(moments: Moments | None, lowest: Lowest | None) -> tuple[float, dict[str, float], Magnitude]:
            if moments is not None:
                self.__dict__["stationarity"] = _said(judged(self.objective.engine, moments))
            return self.said_of(lowest)

        query_ids = np.array([]) if names is None else names
        losses = None if data is None or asked.quantity == "upweight" else self._losses(data, kind)
        work = Work(
            kind=word,
            objective=self.objective,
            asked=asked,
            data=data,
            measurement=kind,
            inverse=self.inverse,
            precision=self.precision,
            positions=positions,
            query_ids=query_ids,
            scoring=fitted,
            gathers=lambda score: score.gathers and positions is None and "stationarity" not in self.__dict__,
            lowest=None if losses is None else lambda changes, found: Lowest(changes, found, losses, query_ids),
            outcome=outcome,
            said=self._told,
        )
        return attributing.attribute(work, kept)

    def _losses(self, data: Data, kind: Measurement) -> Float[Tensor, " queries"] | None:
        """The queries' losses, where they are what is measured and can't be negative."""
        bounded = isinstance(kind, LossMeasured) and isinstance(self.objective.loss, Loss)
        return self.objective.losses(data) if bounded else None

    @_working
    def query_solution(
        self, queries: Any, measurement: Any = None, query_ids: Sequence[Any] | None = None
    ) -> tuple[Solution, np.ndarray]:
        """s_test = (H+δI)⁻¹∇L_q of each query ``[queries, p]``, and the queries' names."""
        data = self.objective.queries(queries)
        names = query_names(data, query_ids)
        return self.solve(self.query_gradients(data, measurement)), names

    @_working
    def measure(
        self, queries: Any, measurement: Any = None, params: Float[Tensor, " p"] | None = None
    ) -> Float[Tensor, " queries"]:
        """The measurement of each query, at the trained θ or another."""
        return measured(self.objective, queries, measurement, params)

    @_working
    def query_gradients(self, queries: Any, measurement: Any = None) -> Float[Tensor, "queries p"]:
        """Gradient of each query's measurement, without the regulariser."""
        data, kind = self.objective.queries(queries), as_measurement(measurement)
        check_measurement(self.objective, data, kind)
        return query_gradients(self.objective, data, kind)

    def result(
        self,
        scores: Tensor,
        quantity: Quantity,
        report: SolveReport | None,
        positions: Tensor | None,
        query_ids: np.ndarray,
        ids: np.ndarray | None = None,
        losses: Float[Tensor, " queries"] | None = None,
    ) -> Attribution:
        """Scores with everything a reader needs to know about them.

        ``losses``: of the queries, where scores are predicted changes of them.
        """
        names = self.objective.ids if positions is None else self.objective.ids[positions.numpy()]
        names = names if ids is None else ids
        lowest = None
        if losses is not None and scores.numel():
            changes, column = scores.min(1)
            lowest = Lowest(changes, names[column.cpu().numpy()], losses, query_ids)
        damping, facts, magnitude = self.said_of(lowest)
        return Attribution(scores, self._told(quantity), names, query_ids, damping, report, facts, magnitude)

    def _told(self, quantity: Quantity) -> Quantity:
        """What a score is, with where it is linearised."""
        return quantity if self.at is None else self.at.said(quantity)

    def said_of(self, lowest: Lowest | None) -> tuple[float, dict[str, float], Magnitude]:
        """The damping of scores, the figures that belong to them, and whether their sizes can be believed."""
        facts = {
            "n": float(self.objective.n),
            "p": float(self.objective.p),
            "gradient_norm": self.stationarity.gradient_norm,
            "gradient_over_noise": self.stationarity.ratio,
        }
        facts |= {} if self.at is None else {"mean weight": self.at.weight}
        return self.solver.damping, facts, judged_magnitude(self.objective, self.solver, self.stationarity, lowest)

    @overload
    def self_influence(
        self, *, train: Any = None, renormalize: bool = False, leverage_corrected: bool = False, store: None = None
    ) -> Attribution: ...

    @overload
    def self_influence(
        self,
        *,
        train: Any = None,
        renormalize: bool = False,
        leverage_corrected: bool = False,
        store: Place,
        **kept: Unpack[Keeping],
    ) -> Stored: ...

    @_working
    def self_influence(
        self,
        *,
        train: Any = None,
        renormalize: bool = False,
        leverage_corrected: bool = False,
        store: Place | None = None,
        top_k: int | None = None,
        executor: Executor | None = None,
        shard_size: int | None = None,
        resume: bool = True,
        columns: Mapping[str, Sequence[Any] | np.ndarray] | None = None,
    ) -> Attribution | Stored:
        """Predicted change of each training example's own loss if it were left out, ``[train]``.

        ∇ℓ_iᵀ(H+δI)⁻¹∇ℓ_i/n: the ranking of Koh & Liang (2017, section 5.4) for label errors.

        Parameters
        ----------
        train
            Positions, a mask or ids of the training examples to score (default: all).
        renormalize
            As for `attribute`.
        leverage_corrected
            As for `attribute`: where outputs are linear in θ the loss is evaluated one Newton step away, which is exact
            for squared error, ½r²(1/(1−h)² − 1).
        store, top_k, executor, shard_size, resume, columns
            As for `attribute`.

        Returns
        -------
        Attribution or Stored
            Scores ``[train]``.

        Raises
        ------
        InputError
            If a position is out of range, an id unknown, one of them repeated, or there are none; if ``renormalize``
            stands beside ``leverage_corrected``, or this beside an inverse in a metric; if something is given that goes
            with a store alone, or the store is of another model, data set or settings.
        upweight.files.NotWrittenError
            If the store can't be written to.
        """
        asked = Asked(renormalize=renormalize, leverage_corrected=leverage_corrected)
        asked.check(self.objective)
        self._refuse_metric("leverage_corrected", leverage_corrected)
        kept = as_kept(store, top_k=top_k, executor=executor, shard_size=shard_size, resume=resume, columns=columns)
        positions = None if train is None else self.objective.positions(train, "train")
        if kept is not None:
            return self._stored(kept, asked, None, LossMeasured(), positions, np.array([]))
        _ = self.stationarity
        if not leverage_corrected:
            self._announce(self.objective.n if positions is None else len(positions))
        score = OfItself(self.objective, asked, self.solver, self.solve)
        return self.result(score(positions), score.meaning, score.report, positions, np.array([]))

    def _refuse_metric(self, name: str, asked: bool) -> None:
        """Refuse steps whose own curvature is damped by δI beside an inverse that is damped by δP."""
        if asked and isinstance(self.inverse, InMetric | InMetricSolver):
            raise InputError(
                f"{name}: it takes the example's own curvature out of H + δI, and inverse.InMetric damps by δP; leave "
                "it out, or give the inverse without a metric"
            )

    @_working
    def parameters(self, indices: Any) -> Float[Tensor, "k p"]:
        """I_up,params(z) = −(H+δI)⁻¹∇ℓ(z): derivative of θ̂ by the weight ε of each example (eq. 1).

        Leaving example i out moves θ̂ by about −1/n times row i.
        """
        positions = self.objective.positions(indices)
        blocks = [-self.solve(grads).x for _, grads in self.objective.example_gradients(positions)]
        return torch.cat(blocks)

    @_working
    def group(
        self,
        indices: Any,
        queries: Any,
        *,
        order: Literal["first", "second", "newton"] = "first",
        renormalize: bool = False,
        measurement: Any = None,
        query_ids: Sequence[Any] | None = None,
    ) -> Attribution:
        """Predicted change of each query's measurement if whole groups were left out.

        Parameters
        ----------
        indices
            One group (positions or ids), or a list of groups.
        order
            ``first``: the sum of the removals; ``second``: with the group's own curvature to first order (Basu et
            al. 2020); ``newton``: one Newton step on the objective without the group, whose curvature is its own
            (Hessian or GGN) whatever the inverse, with the inverse's δ added. Exact for squared error of outputs
            linear in θ, where the measurement is evaluated after the step, and for quadratics and measurements
            linear in θ. A group that alone determines a direction of θ is treated as an example of leverage 1 is by
            `attribute`.

        Returns
        -------
        Attribution
            Scores ``[queries, groups]``; ids are the groups' numbers.
        """
        removal.refuse_corrections(self.objective, renormalize)
        self._refuse_metric("order", order == "newton")
        members = groups.read_members(self.objective, indices)
        kind = as_measurement(measurement)
        data = self.objective.queries(queries)
        check_measurement(self.objective, data, kind)
        names = query_names(data, query_ids)
        score, evaluated = removal.score_of_steps(self.objective, data, kind, order == "newton")
        solve = Recorded(self.solve)
        steps = torch.cat([groups.step(self, solve, group, order, renormalize) for group in members])
        meaning = meanings.removal(kind, self.objective.loss, renormalize=renormalize, group=True, evaluated=evaluated)
        found, numbers = score(steps), np.arange(len(members))
        return self.result(found, meaning, solve.report, None, names, numbers, losses=self._losses(data, kind))

    @_working
    def perturbation(
        self, index: int | str, query: Any, *, measurement: Any = None, wrt: Any = None
    ) -> perturbation.Perturbation:
        """I_pert,loss(z, q): gradient of the query's measurement with respect to a training input (eq. 5).

        Parameters
        ----------
        index
            Position of the training example, or its id.
        query
            One query, or several whose measurements are averaged.
        wrt
            Key or index of the input within the batch (default: its first floating-point tensor).
        """
        named = isinstance(index, str)
        place = int(self.objective.positions([index], "index")[0]) if named else index
        position = scalars.whole("index", place, 0, self.objective.n - 1)
        solution, _ = self.query_solution(query, measurement)
        direction = solution.x.mean(0)
        unit = as_measurement(measurement).unit(self.objective.loss)
        found = perturbation.perturbation(self.objective, direction, position, wrt, unit)
        return replace(found, quantity=self._told(found.quantity))

    @_working
    def replacement(
        self, indices: Any, examples: Any, queries: Any, *, measurement: Any = None, what: str = "replacement"
    ) -> Attribution:
        """Predicted change of each query's measurement if examples were replaced, one by one, at equal weight.

        (1/n)·∇L_qᵀ(H+δI)⁻¹(∇ℓ(z) − ∇ℓ(z̃)) (Koh & Liang 2017, section 2.2). ``examples`` are the z̃, in order of
        ``indices``. Scores ``[queries, indices]``.
        """
        scalars.text("what", what)
        positions = self.objective.positions(indices)
        kind = as_measurement(measurement)
        solution, names = self.query_solution(queries, kind)
        scores = replacement.scores(self.objective, solution.x, positions, examples)
        meaning = meanings.replacement(kind, self.objective.loss, what)
        return self.result(scores, meaning, solution.report, positions, names)

    @_working
    def relabel(self, indices: Any, targets: Any, queries: Any, *, measurement: Any = None) -> Attribution:
        """Predicted change of each query's measurement if examples had other labels; ``[queries, indices]``.

        Parameters
        ----------
        indices
            Positions, a mask or ids of training examples.
        targets
            Other labels, one for each index, in the form of the training data's.
        queries, measurement
            As for `attribute`.

        Raises
        ------
        InputError
            If there isn't one target for each index, a target isn't a finite number or is none that the loss is defined
            for.
        """
        positions = self.objective.positions(indices)
        given = torch.atleast_1d(kinds.numbers("targets", targets)).to(self.objective.device)
        if len(given) != len(positions):
            raise InputError(f"targets: need one for each of the {len(positions)} indices; got {len(given)}")
        batch = self.objective.data.take(positions)
        examples = with_targets(batch, given)
        return self.replacement(positions, examples, queries, measurement=measurement, what="relabelling")

    def generalized(
        self,
        change: Any,
        parameters: Any = None,
        *,
        method: str = "GIF",
        equations: Equations = Equations(),
        renormalize: bool = False,
        further: Float[Tensor, " p"] | None = None,
        seed: int = 0,
    ) -> Response:
        """How chosen parameters answer to a change of the data (see `quantities.generalized`).

        GIF, FIF, PIF, IF or SIF by ``method``; the curvature is the changed risk's own, by ``equations``, not this
        influence's inverse.
        """
        found = generalized(
            self.objective,
            change,
            parameters,
            method=method,
            equations=equations,
            renormalize=renormalize,
            further=further,
            seed=seed,
        )
        _ = self.stationarity
        return found

    # Retrain without the most influential examples and compare; choose the damping by retraining: methods as they stand
    # in `upweight.evaluation`, an influence first.
    verify = verification.verify
    calibrate = calibration.calibrate


def _said(found: Stationarity) -> Stationarity:
    """The figures, with a warning where they speak against influence."""
    if found.is_notable:
        warn(
            f"θ is not at an optimum: {found}. Influence functions describe optima; expect predictions of "
            "retraining to be off. Train further, or read the scores as those of the local quadratic model",
            NotStationaryWarning,
        )
    return found
