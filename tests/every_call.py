"""Calls of the public face with arguments that are right, each stated once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import upweight as uw
from languages import bert, trainer
from problems import convex, mlp
from upweight.store.backend import Memory

Call = tuple[Callable[..., Any], dict[str, Any]]


def train(indices: Any, seed: int) -> Any:
    return convex("softmax").theta


def shown(block: Callable[..., Any]) -> Callable[..., Any]:
    return lambda **options: uw.report.Report("title").section("section", block(**options)).html()


class Stepping(nn.Linear):
    """As a module of Lightning's."""

    def __init__(self) -> None:
        super().__init__(3, 3)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@cache
def scores_file() -> str:
    place = Path(tempfile.mkdtemp()) / "scores.npy"
    np.save(place, np.ones((2, 3)))
    return str(place)


def fitted(kind: Callable[..., Any], objective: uw.Objective) -> Callable[..., Any]:
    return lambda **options: kind(**options).fit(objective)


def chosen(rule: Callable[..., Any], objective: uw.Objective) -> Callable[..., Any]:
    return lambda **options: rule(**options).of(objective)


@cache
def calls() -> dict[str, Call]:
    problem, network, linear = convex("softmax"), mlp().objective(), convex("ridge").objective()
    model, x, y, objective = problem.model, problem.x, problem.y, problem.objective()
    queries, one, n = (x[:3], y[:3]), (x[:1], y[:1]), objective.n
    influence, names = uw.Influence(objective), [1, 2, 3]
    attribution, solver = influence.attribute(queries), influence.solver
    vector, matrix = objective.params[None].clone(), uw.curvature.Hessian().of(objective)
    estimator = LogisticRegression(tol=1e-8).fit(x.numpy(), y.numpy())
    some, ggn = uw.select.random(0.5), uw.curvature.GGN()
    asked = {"queries": queries, "measurement": "loss"}
    recipe, relabelled = uw.retraining.Recipe(1, 2, 0.1), (y + (torch.arange(n) == 0)) % 3
    pair, per = {"objective": objective, "queries": queries}, {"ratio": 0.5, "per": "layer"}
    hidden = (mlp().x[:2], mlp().y[:2])
    index = uw.index.build(objective, Memory(), uw.index.Sparse(8))
    sentences = [{"input_ids": [3, 4, 5 + k], "label": k % 3} for k in range(6)]
    classifier, stepping = bert(), Stepping()
    rows = index.project(objective, queries)
    replay = uw.Replay(model, uw.losses.CrossEntropy(), (x, y), optimizer=uw.replay.SGD(0.1), epochs=1, batch_size=n)
    descent, place = torch.optim.SGD(model.parameters(), lr=0.1), Memory()
    with uw.Recorder(place, model, descent) as recorder:
        recorder.step([0, 1])
    recording = uw.Recording.open(place)
    protocol = uw.evaluation.Protocol("averaged seeds", 0.5, 1)
    truth = uw.evaluation.GroundTruth(torch.arange(8).view(4, 2), torch.rand(4, 1, 3), protocol, False, 0.0)
    return {
        "Objective": (
            uw.Objective,
            {"model": model, "loss": uw.losses.CrossEntropy(), "data": (x, y), "l2": 0.1, "parameters": None}
            | dict.fromkeys(("weights", "ids", "class_names", "batch_size", "collate")),
        ),
        "Objective.losses": (objective.losses, {"data": queries, "params": objective.params}),
        "Objective.outputs": (objective.outputs, {"data": queries}),
        "Objective.risk": (objective.risk, {"params": objective.params}),
        "Objective.gradient": (objective.gradient, {"params": objective.params}),
        "Objective.positions": (objective.positions, {"indices": [1]}),
        "Objective.replace": (objective.replace, {"l2": 0.1, "data": (x, y)}),
        "Objective.at": (objective.at, {"params": objective.params}),
        "Objective.to": (objective.to, {"dtype": torch.float32}),
        "Objective.inner": (objective.inner, {"vectors": vector, "indices": [1]}),
        "Influence": (uw.Influence, {"objective": objective, "inverse": uw.inverse.CG(), "memory": 10**9}),
        "attribute": (influence.attribute, {**asked, "train": [1], "quantity": "removal", "query_ids": names}),
        "group": (influence.group, {**asked, "indices": [1, 2], "order": "first", "query_ids": names}),
        "self_influence": (influence.self_influence, {"train": [1]}),
        "parameters": (influence.parameters, {"indices": [1]}),
        "perturbation": (influence.perturbation, {"index": 1, "query": queries, "measurement": "loss", "wrt": 0}),
        "replacement": (influence.replacement, {**asked, "indices": [1], "examples": one, "what": "replacement"}),
        "relabel": (influence.relabel, {**asked, "indices": [1], "targets": [0]}),
        "generalized": (
            influence.generalized,
            {"change": uw.Removal([1]), "parameters": None, "equations": uw.tasks.Equations(), "further": None},
        ),
        "Influence.verify": (influence.verify, {**asked, "k": 2, "counterfactual": "retrain", "solver": solver}),
        "measure": (influence.measure, {**asked, "params": objective.params}),
        "query_solution": (influence.query_solution, {**asked, "query_ids": names}),
        "solve": (influence.solve, {"vectors": vector}),
        "plan": (influence.plan, {"queries": 3}),
        "Quantity": (
            uw.Quantity,
            {"name": "a", "words": "b", "unit": "c", "positive": "d", "helpful_sign": 1},
        ),
        "TRAK": (
            lambda **options: uw.TRAK(**options).attribute(queries),
            {"objective": objective, "models": [model], "dimension": 8, "damping": 0.1, "measurement": "margin"},
        ),
        "TracIn": (uw.TracIn, {"objective": objective, "checkpoints": [model], "learning_rates": 0.1}),
        "Replay": (
            uw.Replay,
            {"model": model, "loss": uw.losses.CrossEntropy(), "data": (x, y), "optimizer": uw.replay.SGD(0.1)}
            | {"epochs": 1, "batch_size": 9, "schedule": "constant", "clip": 1.0, "seed": 0, "drop_last": False}
            | {"cycle_momentum": True, "parameters": None, "batches": None}
            | dict.fromkeys(("weights", "ids", "collate", "budget")),
        ),
        "Replay.batches": (
            partial(uw.Replay, model, uw.losses.CrossEntropy(), (x, y), optimizer=uw.replay.SGD(0.1)),
            {"batches": [[0, 1]]},
        ),
        "Replay.train": (replay.train, {"weights": [1.0] * n, "seed": 0}),
        "Replay.objective": (replay.objective, {"weight": 1.0, "seed": 0}),
        "Replay.plan": (replay.plan, {"queries": 2, "seeds": 1}),
        "Replay.metasmoothness": (replay.metasmoothness, {"weight": 1.0, "seed": 0, "step": 0.1}),
        "Replay.attribute": (
            replay.attribute,
            {**asked, "quantity": "removal", "weight": 1.0, "seeds": [0], "train": [1], "query_ids": names}
            | {"smoothness": False},
        ),
        "replay.SGD": (
            uw.replay.SGD,
            {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "dampening": 0.0, "nesterov": True},
        ),
        "replay.Adam": (
            uw.replay.Adam,
            {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "amsgrad": False},
        ),
        "TracIn.from_recording": (
            uw.TracIn.from_recording,
            {"objective": objective, "recording": recording, "by_example": True},
        ),
        "Recorder": (
            lambda **options: uw.Recorder(Memory(), **options),
            {"model": model, "optimizer": descent, "every": 3, "moments": "float32", "frozen": True, "start": 3},
        ),
        "Recorder.step": (
            lambda **options: uw.Recorder(Memory(), model, descent, every=10**6).step(**options),
            {"examples": [1, 2], "rate": 0.1},
        ),
        "Recording.learning_rates": (recording.learning_rates, {"examples": n}),
        "Recording.example_rates": (recording.example_rates, {"examples": n}),
        "trainer_recorder": (
            lambda **options: uw.trainer_recorder(Memory(), **options),
            {"every": 3, "moments": "float32", "frozen": True},
        ),
        "lightning_recorder": (
            lambda **options: uw.lightning_recorder(Memory(), **options),
            {"every": 3, "moments": "float32", "frozen": True},
        ),
        "InMetric": (
            fitted(uw.inverse.InMetric, objective),
            {"inner": uw.inverse.EKFAC(ggn, damping=0.1), "metric": uw.step_metric(descent, model)},
        ),
        "Ensemble": (
            lambda **options: uw.Ensemble(**options).attribute(queries),
            {"objective": objective, "models": [model], "inverse": uw.inverse.CG()},
        ),
        "Removal": (lambda **options: influence.generalized(uw.Removal(**options)), {"indices": [1]}),
        "Relabelling": (
            lambda **options: influence.generalized(uw.Relabelling(**options)),
            {"indices": [1], "targets": [0]},
        ),
        "Study": (
            uw.Study,
            {"objective": objective, "queries": queries}
            | dict.fromkeys(("query_ids", "class_names", "images", "table", "query_table", "network"))
            | dict.fromkeys(("tokens", "query_tokens", "retrain")),
        ),
        "from_estimator": (
            uw.from_estimator,
            {"estimator": estimator, "X": x.numpy(), "y": y.numpy(), "dtype": torch.float64, "smooth": 0.001}
            | dict.fromkeys(("sample_weight", "ids")),
        ),
        "from_transformers": (
            uw.from_transformers,
            {"model": classifier, "dataset": sentences, "tokenizer": None, "task": "sequence-classification"}
            | {"loss": None, "label_smoothing": 0.1, "text": "text", "l2": 0.1, "validate": True}
            | dict.fromkeys(("collate", "parameters", "weights", "ids", "class_names", "batch_size", "budget")),
        ),
        "from_trainer": (
            uw.from_trainer,
            {"trainer": trainer(classifier, sentences), "task": None, "loss": None, "text": "text", "l2": 0.1}
            | dict.fromkeys(("parameters", "weights", "ids", "class_names", "batch_size", "budget")),
        ),
        "from_lightning": (
            uw.from_lightning,
            {"module": stepping, "data": list(zip(x.float(), y, strict=True)), "l2": 0.1, "loss": None}
            | dict.fromkeys(("optimizer", "parameters", "weights", "ids", "columns", "batch_size", "budget")),
        ),
        "to_pandas": (attribution.top(2).to_pandas, {"columns": {"label": list(range(n))}}),
        "prepare": (uw.estimators.prepare, {"estimator": estimator, "X": x.numpy(), "y": y.numpy()}),
        "statistics": (uw.statistics, {"model": linear, "names": None, "information": "observed"}),
        "fit": (uw.retraining.fit, {"objective": objective, "tolerance": 1e-6, "max_iterations": 5}),
        "leave_out": (uw.retraining.leave_out, {"objective": objective, "groups": [[1]], "solver": solver}),
        "replace": (
            uw.retraining.replace,
            {"objective": objective, "groups": [[1]], "examples": one, "start": None, "solver": solver},
        ),
        "retraining.relabel": (uw.retraining.relabel, {"objective": objective, "indices": [1], "targets": [0]}),
        "pbrf": (uw.retraining.pbrf, {"objective": objective, "indices": [1], "damping": 0.1, "solver": None}),
        "lowest_curvature": (uw.retraining.lowest_curvature, {"objective": objective, "solver": None}),
        "trust_region": (uw.retraining.trust_region, {"objective": objective, "solver": None, "curvature": None}),
        "train_many": (
            uw.retraining.train_many,
            {"train": train, "jobs": [([0], 0)], "model": model},
        ),
        "train_together": (
            partial(uw.retraining.train_together, lambda: nn.Linear(3, 3).double()),
            {
                "loss": uw.losses.CrossEntropy(),
                "data": (x, y),
                "subsets": [[0, 1]],
                "seeds": [0],
                "recipe": recipe,
                "memory": 10**8,
            },
        ),
        "index.build": (
            lambda **options: uw.index.build(store=Memory(), **options),
            {"objective": objective, "projection": uw.index.Sparse(8), "dtype": "int8", "curvature": ggn, "shard": 9}
            | dict.fromkeys(("ids", "columns")),
        ),
        "index.open": (uw.index.open, {"store": index._stored.backend}),
        "index.project": (index.project, {"objective": objective, **asked, "query_ids": names, "name": "some"}),
        "index.scores": (index.scores, {"queries": rows, "damping": 0.1, "where": None, "train": [1]}),
        "index.top": (index.top, {"queries": rows, "k": 2, "damping": 0.1, "where": None, "train": [1]}),
        "index.rows": (index.rows, {"train": [1]}),
        "index.append": (
            lambda **options: uw.index.build(objective, Memory(), uw.index.Sparse(8)).append(**options),
            {"objective": objective, "ids": range(n, 2 * n), "columns": None},
        ),
        "explain": (
            uw.tasks.explain,
            {"subject": objective, **asked, "k": 2, "query_ids": None} | dict.fromkeys(("tokens", "query_tokens")),
        ),
        "label_errors": (uw.tasks.label_errors, {"subject": objective, "method": "loss", "class_names": None}),
        "export": (
            lambda **options: uw.tasks.export(path=Path(mkdtemp()) / "a.parquet", **options),
            {"errors": uw.tasks.label_errors(objective), "form": "embedding-atlas", "columns": None}
            | {"coordinates": None, "filepaths": None},
        ),
        "target_errors": (uw.tasks.target_errors, {"subject": convex("ridge").objective(), "method": "loss"}),
        "by_distance": (
            uw.tasks.by_distance,
            {"attribution": attribution, "inputs": x, "query_inputs": x[:3], "labels": y, "query_labels": y[:3]},
        ),
        "compare_models": (
            uw.tasks.compare_models,
            {"models": {"a": objective}, "queries": {"a": queries}, "inputs": x, "query_inputs": x[:3], "k": 2},
        ),
        "fix_and_retrain": (
            uw.tasks.fix_and_retrain,
            {"objective": objective, "orders": {"a": range(n)}, "true_labels": relabelled, "test": queries}
            | {"fractions": (0.1, 0.2), "train": None, "solver": None},
        ),
        "select": (
            uw.tasks.select,
            {"subject": objective, "reference": queries, "k": 3, "method": "influence", "diversity": 0.5}
            | {"attribution": attribution},
        ),
        "query_loss_rise": (
            uw.evaluation.query_loss_rise,
            {"influence": influence, "queries": queries, "train": train, "attributions": attribution, "share": 0.1},
        ),
        "MRR.update": (uw.evaluation.MRR().update, {"scores": [[1.0, 2.0]], "relevant": [[0]]}),
        "AUPRC.update": (uw.evaluation.AUPRC().update, {"scores": [1.0, 2.0], "relevant": [True, False]}),
        "RecallAtK": (uw.evaluation.RecallAtK, {"k": 3, "resamples": 9, "level": 0.9}),
        "relative_to": (attribution.relative_to, {"own": influence.self_influence()}),
        "bm25": (uw.similarity.bm25, {"texts": ["a b", "c"], "queries": ["a"], "k1": 1.2, "b": 0.5, "ids": None}),
        "synthetic_people": (
            uw.datasets.synthetic_people,
            {"people": 5, "paraphrases": 2, "crossed": 1, "questions": 3},
        ),
        "predictions": (uw.tasks.predictions, {"objective": objective, "data": queries, "outputs": None}),
        "unlearn": (
            uw.tasks.unlearn,
            {"objective": network, "remove": [1, 2], "parameters": some, "rounds": uw.tasks.Rounds()}
            | {"equations": uw.tasks.Equations()},
        ),
        "unlearn, classes": (uw.tasks.unlearn, {"objective": objective, "classes": [0], "parameters": some}),
        "correct_labels": (
            uw.tasks.correct_labels,
            {"objective": objective, "indices": [1], "targets": [0], "parameters": some}
            | {"equations": uw.tasks.Equations()},
        ),
        "GroupFeatures": (uw.tasks.GroupFeatures, {"positions": [1]}),
        "Equations": (
            uw.tasks.Equations,
            {"curvature": ggn, "damping": 0.1, "examples": 3, "tolerance": 0.1, "max_iterations": 3}
            | {"preconditioner": solver, "solver": None},
        ),
        "Rounds": (uw.tasks.Rounds, {"steps": 2, "search": True, "holdout": 0.2, "sample": 3}),
        "Aim": (uw.tasks.Aim, {"together": False}),
        "LeverChoice": (uw.tasks.LeverChoice, {"count": 1, "candidates": 24}),
        "Climb": (uw.tasks.Climb, {"step": 0.1, "iterations": 3, "box": uw.tasks.Box(0.3)}),
        "Box": (uw.tasks.Box, {"radius": 0.3}),
        "Resources": (uw.tasks.Resources, {"batch_size": 3, "keep": 3, "folder": None}),
        "agreement": (uw.evaluation.agreement, {"predicted": [1.0, 2.0], "actual": [1.0, 3.0]}),
        "brittleness": (
            uw.evaluation.brittleness,
            {"influence": influence, "queries": queries, "k": 2, "train": train, "attribution": None},
        ),
        "verify": (uw.evaluation.verify, {"influence": influence, "queries": queries, "k": 2}),
        "against_retraining": (
            uw.evaluation.against_retraining,
            {"influence": influence, "queries": queries, "train": train, "k": 2},
        ),
        "Training": (uw.evaluation.Training, {"train": train, "seeds": (0,)}),
        "ground_truth": (
            uw.evaluation.ground_truth,
            {"objective": objective, "train": train, "queries": queries, "protocol": "averaged seeds", "kept": 0.5}
            | {"subsets": 4},
        ),
        "as_dattri": (uw.evaluation.as_dattri, {"truth": truth}),
        "export_truth": (
            lambda **options: uw.evaluation.export_truth(folder=mkdtemp(), **options),
            {"truth": truth, "library": "dattri", "objective": objective, "train": train},
        ),
        "recommend": (uw.recommend, {"objective": objective, "train": train, "budget": 1.0, "queries": queries}),
        "expansion": (uw.expansion, {"train": train, "weight": 0.5, "seeds": (0,), "check": True, "passes": 5}),
        "Influence, at": (uw.Influence, {"objective": objective, "at": uw.expansion(passes=1)}),
        "SOURCE": (
            uw.SOURCE,
            {"objective": objective, "checkpoints": [model], "rates": 0.1, "steps": 4, "momentum": 0.5},
        ),
        "TrainingLength": (uw.inverse.TrainingLength, {"rate": 0.1, "steps": 4, "momentum": 0.5}),
        "CG": (
            fitted(uw.inverse.CG, objective),
            {"curvature": ggn, "damping": 0.1, "tolerance": 0.1, "max_iterations": 3, "preconditioner": None},
        ),
        **{
            name: (fitted(getattr(uw.inverse, name), objective), {"curvature": ggn, "damping": 0.1})
            for name in ("LSMR", "LiSSA", "Dense", "Dual", "KFAC", "EKFAC", "Diagonal", "DataInf")
        },
        **{
            name: (fitted(getattr(uw.inverse, name), objective), {"rank": 3, "curvature": ggn, "damping": 0.1})
            for name in ("Nystrom", "Arnoldi")
        },
        "CG.fit": (uw.inverse.CG().fit, {"target": objective}),
        "as_solver": (uw.inverse.as_solver, {"inverse": uw.inverse.CG(), "target": objective}),
        "solver": (solver.solve, {"vectors": vector}),
        "precondition": (uw.inverse.precondition, {"solver": solver, "vectors": vector}),
        "GGN.of": (ggn.of, {"objective": objective}),
        "Matrix": (uw.curvature.Matrix, {"matrix": torch.eye(3)}),
        "Difference": (uw.curvature.Difference, {"first": matrix, "second": matrix}),
        "mean_eigenvalue": (uw.curvature.mean_eigenvalue, {"operator": matrix}),
        "apply": (matrix.apply, {"vectors": vector}),
        **{
            f"select.{name}": (chosen(getattr(uw.select, name), network), per)
            for name in ("highest_output", "lowest_gradient", "highest_fisher", "random")
        },
        "Rule.of": (some.of, {"objective": network}),
        "by_name": (uw.select.by_name, {"objective": objective, "patterns": "weight"}),
        "masked": (uw.select.masked, {"layout": objective.layout, "masks": torch.ones(objective.p).bool()}),
        "units": (uw.select.units, {"model": model, "layout": objective.layout}),
        "Function": (uw.losses.Function, {"function": train, "unit": "u"}),
        "measurements.Function": (uw.measurements.Function, {"function": train, "name": "a", "units": "u"}),
        **{
            f"similarity.{name}": (getattr(uw.similarity, name), pair)
            for name in ("euclidean_distance", "gradient_dot", "gradient_cosine")
        },
        "representation_dot": (
            uw.similarity.representation_dot,
            {"objective": network, "queries": hidden, "layer": None},
        ),
        "datasets.load": (uw.datasets.load, {"name": "digits"}),
        "read_scores": (uw.read_scores, {"path": scores_file(), "of": "numpy", "ids": None, "query_ids": None}),
        "Report": (uw.report.Report, {"title": "t", "summary": "s", "foot": "f"}),
        "Facts": (shown(uw.report.Facts), {"facts": {"a": 1}, "digits": 3}),
        "Table": (shown(uw.report.Table), {"columns": ["a"], "rows": [[1]], "caption": "c", "marked": [[True]]}),
        "Warnings": (shown(uw.report.Warnings), {"messages": ["a"]}),
        "ranking_bars": (
            uw.plots.ranking_bars,
            {"labels": ["a", "b"], "scores": [1.0, -2.0], "unit": "u", "quantity": "q", "signs": None},
        ),
        "curves_with_bands": (
            uw.plots.curves_with_bands,
            {"x": [1, 2], "curves": {"a": [1, 2]}, "bands": None, "xlabel": "x", "ylabel": "y", "marks": None},
        ),
        "example_grid": (uw.plots.example_grid, {"images": np.zeros((1, 4, 4)), "captions": ["a"], "columns": 2}),
    }
