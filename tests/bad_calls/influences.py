"""Influences and attributions: queries, groups, verification, changes on a part of θ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

import upweight as uw
from bad_calls.case import Broken, Form, Row, attribution, ignored, influence, linear, objective, queries, x, y
from upweight.inverse import CG


def alone() -> uw.Influence:
    return uw.Influence(linear(x()[:1], y()[:1], l2=0.1))


TABLE: list[Row] = [
    ("Influence", "memory", "whole", lambda v: uw.Influence(objective(), memory=v)),
    ("plan", "queries", "whole", lambda v: influence().plan(v)),
    ("attribute", "renormalize", "flag", lambda v: influence().attribute(queries(), renormalize=v)),
    ("attribute", "leverage_corrected", "flag", lambda v: influence().attribute(queries(), leverage_corrected=v)),
    (
        "attribute",
        "newton_steps",
        "whole",
        lambda v: influence().attribute(queries(), leverage_corrected=True, newton_steps=v),
    ),
    ("attribute", "quantity", "choice", lambda v: influence().attribute(queries(), quantity=v)),
    ("attribute", "train", "positions", lambda v: influence().attribute(queries(), train=v)),
    ("self_influence", "renormalize", "flag", lambda v: influence().self_influence(renormalize=v)),
    ("self_influence", "leverage_corrected", "flag", lambda v: influence().self_influence(leverage_corrected=v)),
    ("self_influence", "train", "positions", lambda v: influence().self_influence(train=v)),
    ("parameters", "indices", "positions", lambda v: influence().parameters(v)),
    ("group", "renormalize", "flag", lambda v: influence().group([1, 2], queries(), renormalize=v)),
    ("group", "order", "choice", lambda v: influence().group([1, 2], queries(), order=v)),
    ("perturbation", "index", "whole", lambda v: influence().perturbation(v, queries())),
    ("verify", "k", "whole", lambda v: influence().verify(queries(), v)),
    ("verify", "select", "choice", lambda v: influence().verify(queries(), 3, select=v)),
    ("verify", "seed", "seed", lambda v: influence().verify(queries(), 3, select="random", seed=v)),
    ("verify", "tolerance", "number", lambda v: influence().verify(queries(), 3, tolerance=v)),
    ("verify", "renormalize", "flag", lambda v: influence().verify(queries(), 3, renormalize=v)),
    ("verify", "leverage_corrected", "flag", lambda v: influence().verify(queries(), 3, leverage_corrected=v)),
    (
        "verify",
        "newton_steps",
        "whole",
        lambda v: influence().verify(queries(), 3, leverage_corrected=True, newton_steps=v),
    ),
    ("top", "k", "whole", lambda v: attribution().top(v)),
    ("bottom", "k", "whole", lambda v: attribution().bottom(v)),
    ("generalized", "seed", "seed", lambda v: influence().generalized(uw.Removal([0]), seed=v)),
    ("generalized", "renormalize", "flag", lambda v: influence().generalized(uw.Removal([0]), renormalize=v)),
    ("generalized", "method", "choice", lambda v: influence().generalized(uw.Removal([0]), method=v)),
]

FORMS: dict[str, Form] = {
    "one example, renormalised": (lambda: alone().attribute(queries(), renormalize=True), r"renormalize: .*\(n=1\)"),
    "one example's own, renormalised": (lambda: alone().self_influence(renormalize=True), r"renormalize: .*\(n=1\)"),
    "one example, verified": (lambda: alone().verify(queries()), "data: n=1; leaving examples out takes two"),
    "queries of another width": (
        lambda: influence().attribute((x()[:3, :2], y()[:3])),
        r"queries: array 0 has examples of torch.float64 \[1, 2\], where .* torch.float64 \[1, 3\]",
    ),
    "queries swapped": (
        lambda: influence().attribute((y()[:3], x()[:3])),
        r"queries: array 0 has examples of torch.int64",
    ),
    "whole queries": (
        lambda: influence().attribute((x()[:3].long(), y()[:3])),
        r"queries: array 0 .*torch.int64 \[1, 3\]",
    ),
    "complex queries": (lambda: influence().attribute((x()[:3] + 0j, y()[:3])), r"queries: array 0 .*torch.complex128"),
    "queries of one dimension": (
        lambda: influence().attribute((x()[:3, 0], y()[:3])),
        r"queries: array 0 .*\[1\], where",
    ),
    "sparse queries": (lambda: influence().attribute((x()[:3].to_sparse(), y()[:3])), "queries: a tensor .*to_dense"),
    "queries without targets": (
        lambda: influence().attribute(x()[:3]),
        "queries: an example is Tensor, where one of the",
    ),
    "queries in a dict": (
        lambda: influence().attribute({"x": x()[:3], "y": y()[:3]}),
        "queries: an example is a dict of 'x'",
    ),
    "query ids twice": (
        lambda: influence().attribute(queries(), query_ids=[1, 1, 1]),
        "query_ids: must be unique; 1 stands 3 times",
    ),
    "a group of all": (lambda: influence().group(range(24), queries()), "indices: the group is all 24 .*nothing"),
    "a group of all, by a step": (
        lambda: influence().group([[1], range(24)], queries(), order="newton"),
        "indices: the group is all 24",
    ),
    "values of all queries at once": (
        lambda: influence().measure(queries(), lambda model, batch: model(batch[0]).sum()),
        "measurement: returned shape .* for 3 queries",
    ),
    "queries that are all ignored": (
        lambda: influence().attribute((x()[:3], ignored(3))),
        "queries: 3 of 3 .* have no target but -100, which the loss ignores",
    ),
    "ignored queries under a class": (
        lambda: influence().attribute((x()[:3], ignored(3)), measurement=uw.measurements.LogProbability(1)),
        "queries: 3 of 3 .* have no target",
    ),
    "targets of text": (
        lambda: influence().generalized(uw.Relabelling([0], ["a"])),
        r"targets: give numbers; got \['a'\]",
    ),
    "targets of the meta device": (
        lambda: influence().relabel([0], torch.ones(1, device="meta"), queries()),
        r"targets: a tensor \[1\] is on the meta device",
    ),
    "masked targets": (
        lambda: influence().relabel([0, 1], np.ma.masked_array([0, 1], mask=[0, 1]), queries()),
        r"targets: a masked array \[2\] has no value in 1 places, first at \[1\]",
    ),
    "vectors of the meta device": (
        lambda: influence().solve(torch.ones(1, 12, device="meta")),
        r"vectors: a tensor \[1, 12\] is on the meta device",
    ),
    "sparse vectors": (
        lambda: influence().solve(torch.ones(1, 12).to_sparse()),
        r"vectors: a tensor \[1, 12\] has layout torch\.sparse_coo; give a dense one",
    ),
    "positions of the meta device": (
        lambda: influence().attribute(queries(), train=torch.ones(2, dtype=torch.long, device="meta")),
        r"train: a tensor \[2\] is on the meta device",
    ),
    "masked positions": (
        lambda: influence().parameters(np.ma.masked_array([0, 1], mask=[0, 1])),
        r"indices: a masked array \[2\] has no value in 1 places",
    ),
    "a position longer than Python writes": (
        lambda: influence().parameters([10**5000]),
        "indices: give at least one whole-number position below n=24; got a list",
    ),
    "groups in a dict": (
        lambda: influence().group({"a": [1]}, queries()),
        r"indices: give a list of positions, or a list of such groups; got {'a': \[1\]}",
    ),
    "groups in a frame": (
        lambda: influence().group(pd.DataFrame({"a": [1, 2]}), queries()),
        "indices: give a list of positions, or a list of such groups; got a DataFrame",
    ),
    **{
        f"checkpoints that are {name}": (
            lambda given=given: uw.Ensemble(objective(), [given]),
            rf"models\[0\].*{words}",
        )
        for name, given, words in (
            ("meta", torch.ones(12, device="meta"), "is on the meta device"),
            ("sparse", torch.ones(12).to_sparse(), r"torch\.sparse_coo; give a dense one"),
            ("complex", torch.ones(12) + 0j, r"'weight' is torch\.complex64; give real numbers"),
            ("masked", np.ma.masked_array(np.ones(12), mask=np.arange(12) == 1), "a masked array"),
        )
    },
    "a measurement that raises": (
        lambda: influence().attribute(queries(), measurement=lambda model, batch: model(batch["x"])[:, 0]),
        "measurement: on queries 0 … 2 it raised TypeError: .*; call it yourself on the model and such a batch",
    ),
    "a complex measurement": (
        lambda: influence().attribute(queries(), measurement=lambda model, batch: model(batch[0])[:, 0] + 0j),
        r"measurement: returned torch\.complex128; give real numbers",
    ),
    "a class for an inverse": (lambda: uw.Influence(objective(), CG), "inverse: the class CG, which is not yet"),
    "queries that can't be read": (
        lambda: influence().attribute(Broken()),
        "queries: reading example 7 of 24 raised KeyError",
    ),
}
