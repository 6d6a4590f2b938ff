"""What users come for: explanations, label errors, unlearning, statistics of a regression."""

from __future__ import annotations

import upweight as uw
from bad_calls.case import Form, Row, attribution, linear, made, objective, queries, x, y
from problems import convex

TABLE: list[Row] = [
    ("explain", "k", "whole", lambda v: uw.tasks.explain(objective(), queries(), v)),
    ("explain", "leverage_corrected", "flag", lambda v: uw.tasks.explain(objective(), queries(), leverage_corrected=v)),
    (
        "explain",
        "newton_steps",
        "whole",
        lambda v: uw.tasks.explain(objective(), queries(), leverage_corrected=True, newton_steps=v),
    ),
    ("label_errors", "method", "choice", lambda v: uw.tasks.label_errors(objective(), method=v)),
    ("label errors' top", "k", "whole", lambda v: uw.tasks.label_errors(objective()).top(v)),
    ("unlearning's rounds", "steps", "whole", lambda v: uw.tasks.Rounds(steps=v)),
    ("unlearning's rounds", "holdout", "number", lambda v: uw.tasks.Rounds(search=True, holdout=v)),
    ("unlearning's rounds", "search", "flag", lambda v: uw.tasks.Rounds(search=v)),
    ("unlearning's rounds", "sample", "whole", lambda v: uw.tasks.Rounds(sample=v)),
    ("equations", "damping", "number", lambda v: uw.tasks.Equations(damping=v)),
    ("equations", "examples", "whole", lambda v: uw.tasks.Equations(examples=v)),
    ("equations", "tolerance", "number", lambda v: uw.tasks.Equations(tolerance=v)),
    ("equations", "max_iterations", "whole", lambda v: uw.tasks.Equations(max_iterations=v)),
    ("unlearn", "remove", "positions", lambda v: uw.tasks.unlearn(objective(), v)),
    ("correct_labels", "indices", "positions", lambda v: uw.tasks.correct_labels(objective(), v, [1])),
    (
        "unlearn",
        "seed",
        "seed",
        lambda v: uw.tasks.unlearn(objective(), classes=[0], rounds=uw.tasks.Rounds(sample=3), seed=v),
    ),
    ("unlearn", "method", "choice", lambda v: uw.tasks.unlearn(objective(), classes=[0], method=v)),
    ("statistics", "information", "choice", lambda v: uw.statistics(convex("ridge").objective(), information=v)),
]

FORMS: dict[str, Form] = {
    "one example's label": (lambda: uw.tasks.label_errors(linear(x()[:1], y()[:1])), "data: all 1 labels are of class"),
    "two class names for three": (lambda: uw.tasks.label_errors(made(class_names=["a", "b"])), "class_names: 2 names"),
    "half a class": (lambda: uw.tasks.unlearn(objective(), classes=[1.5]), "classes: give whole numbers; got 1.5"),
    "a class that is true": (lambda: uw.tasks.unlearn(objective(), classes=True), "classes: give .*; got True"),
    "half a true label": (
        lambda: uw.tasks.fix_and_retrain(objective(), {"a": range(24)}, y() + 0.5, queries()),
        r"true_labels: give whole numbers; got \d\.5",
    ),
    "labels by halves": (
        lambda: uw.tasks.by_distance(attribution(), x(), x()[:3], y() + 0.5, y()[:3]),
        r"labels: give whole numbers; got \d\.5",
    ),
    "complex labels of queries": (
        lambda: uw.tasks.by_distance(attribution(), x(), x()[:3], y(), y()[:3] + 1j),
        "query_labels: give real numbers",
    ),
    "classes of text": (lambda: uw.tasks.unlearn(objective(), classes="0"), "classes: give numbers; got '0'"),
    "no test data": (
        lambda: uw.tasks.fix_and_retrain(objective(), {"a": range(24)}, (y() + 1) % 3, None),
        "test: give examples",
    ),
}
