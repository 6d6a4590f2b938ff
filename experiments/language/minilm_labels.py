"""Which labels are wrong? Flipped labels among newsgroup messages that MiniLM was fine-tuned on by `Trainer`.

Scores of `uw.tasks.label_errors` by the head alone, and by the last two blocks with pooler and head, beside the loss
and chance.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score

import upweight as uw
from experiments.language.newsgroups import EPOCHS, FLIPPED, GROUPS, SETTINGS, TOKENS, TRAIN, Messages
from experiments.results import Result, table
from upweight import plots
from upweight.evaluation.detection import recovered
from upweight.tasks.own_effects import LeverageWarning

FRACTIONS = (0.05, 0.1, 0.15, 0.2, 0.3)
TOLD = (0.05, 0.1, 0.2)
BLOCKS = ("bert.encoder.layer.4.*", "bert.encoder.layer.5.*", "bert.pooler.*", "classifier.*")
METHODS = ("out-of-sample", "margin", "self-influence")
OURS = "last two blocks, self-influence"
RESAMPLES = 300


def scored(trainer: Any, data: Messages) -> tuple[dict[str, Any], uw.Influence]:
    """Scores of every order, large for suspicious labels, what they took, and the influence by the last blocks."""
    warnings.simplefilter("ignore", uw.NotStationaryWarning)  # a few epochs don't reach an optimum
    warnings.simplefilter("ignore", LeverageWarning)  # the share of leverages above 1 is in the result
    parts: dict[str, Callable[[], uw.Influence]] = {
        "head": lambda: uw.Influence(on_features(trainer, data), uw.inverse.Dense(damping="auto")),
        "last two blocks": lambda: uw.Influence(
            uw.from_trainer(trainer, parameters=list(BLOCKS)), uw.inverse.EKFAC(damping="auto")
        ),
    }
    scores, taken = {}, {}
    for name, made in parts.items():
        began = time.process_time()
        influence = made()
        effects = uw.tasks.label_effects(influence)
        for method in METHODS:
            found = uw.tasks.label_errors(effects, method=method)
            scores[f"{name}, {method}"] = found.attribution.scores.double().tolist()
        taken[name] = {
            "p": influence.objective.p,
            "inverse": repr(influence.inverse),
            "damping": float(influence.solver.damping),
            "leverages_above_one": float((effects.weights * effects.curvatures * effects.pulls > 1).double().mean()),
            "cpu_seconds": time.process_time() - began,
        }
    scores["loss"] = influence.objective.losses().double().tolist()
    fitted = effects.outputs.argmax(1).numpy() == [row["label"] for row in data.train]
    return {
        "scores": scores,
        "flipped": data.flipped.tolist(),
        "flips_fitted": float(fitted[data.flipped].mean()),
        "right_fitted": float(fitted[~data.flipped].mean()),
        "parts": taken,
        "notes": influence.objective.notes,
    }, influence


def on_features(trainer: Any, data: Messages) -> uw.Objective:
    """What ``from_trainer(trainer, parameters=["classifier.*"])`` is, on features that are computed once."""
    model = trainer.model.eval()
    batch = trainer.data_collator([{key: row[key] for key in ("input_ids", "attention_mask")} for row in data.train])
    with torch.no_grad():
        features = torch.cat(
            [
                model.bert(ids, mask).pooler_output
                for ids, mask in zip(batch["input_ids"].split(32), batch["attention_mask"].split(32), strict=True)
            ]
        )
    labels = torch.tensor([row["label"] for row in data.train])
    l2 = uw.l2_of(trainer.optimizer, model)
    return uw.Objective(
        *(model.classifier, uw.losses.CrossEntropy(), (features, labels)),
        l2={name: l2[f"classifier.{name}"] for name in ("weight", "bias")},
    )


def judged(runs: list[dict[str, Any]], name: str) -> dict[str, list[float]]:
    """Each figure's mean over seeds, with the ends of its 95 % interval over examples, flipped and others apart."""
    pairs = [(np.array(run["scores"][name]), np.array(run["flipped"])) for run in runs]
    generator = np.random.default_rng(0)
    draws = [figures(pairs)] + [figures([resampled(*pair, generator) for pair in pairs]) for _ in range(RESAMPLES)]
    found = {}
    for figure in draws[0]:
        values = np.array([draw[figure] for draw in draws])
        found[figure] = [values[0], *np.percentile(values[1:], [2.5, 97.5])]
    return found


def figures(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Means over seeds of precision, rank and shares found."""
    shares = np.mean([recovered(scores, flipped, np.array(FRACTIONS)) for scores, flipped in pairs], axis=0)
    return {
        "AUPRC": float(np.mean([average_precision_score(flipped, scores) for scores, flipped in pairs])),
        "AUROC": float(np.mean([roc_auc_score(flipped, scores) for scores, flipped in pairs])),
        **{f"{share:.0%}": float(value) for share, value in zip(FRACTIONS, shares, strict=True)},
    }


def resampled(scores: np.ndarray, flipped: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As many flipped and other examples, drawn with replacement."""
    parts = [np.flatnonzero(flipped), np.flatnonzero(~flipped)]
    drawn = np.concatenate([generator.choice(part, len(part)) for part in parts])
    return scores[drawn], flipped[drawn]


def result(runs: list[dict[str, Any]], quick: bool) -> tuple[Result, dict[str, Figure]]:
    """The table of all orders, and the curves."""
    for seed, run in enumerate(runs):
        run["scores"]["random"] = np.random.default_rng(seed).permutation(len(run["flipped"])).tolist()
    found = {name: judged(runs, name) for name in runs[0]["scores"]}
    names = sorted(found, key=lambda name: -found[name]["AUPRC"][0])
    said = {name: {figure: told(values) for figure, values in found[name].items()} for name in names}
    at = [f"{share:.0%}" for share in TOLD]
    columns = ["AUPRC", "AUROC", *at]
    first = list(dict.fromkeys([names[0], OURS, "loss"]))
    made = Result(
        id="minilm_labels",
        title="Flipped labels of newsgroup messages (MiniLM, fine-tuned)",
        paper="not of a paper",
        ours="; ".join(
            f"{name}: AUPRC {said[name]['AUPRC']}, of the flips {said[name]['10%']} in the first 10 %" for name in first
        ),
        why=why(runs)
        + table(
            ["order", "AUPRC", "AUROC", *(f"found in the first {share}" for share in at)],
            [[name, *(said[name][column] for column in columns)] for name in names],
        ),
        numbers={"settings": SETTINGS, "found": found, "per_seed": [without_scores(run) for run in runs]},
        quick=quick,
        seconds=sum(run["cpu_seconds"] for run in runs),
        peak_memory_gib=max(run["peak_memory_gib"] for run in runs),
    )
    return made, {"minilm_labels": drawn({name: found[name] for name in names})}


def told(values: list[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


def without_scores(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key not in ("scores", "flipped", "explained")}


def why(runs: list[dict[str, Any]]) -> str:
    parts = runs[0]["parts"]
    each = "; ".join(
        f"{name}: {part['p']:,} parameters, {part['inverse'].split('(')[0]}, "
        + "/".join(f"{run['parts'][name]['cpu_seconds']:.0f}" for run in runs)
        + " s"
        for name, part in parts.items()
    )
    seconds, tested = of_runs(runs, "training_cpu_seconds", ".0f"), of_runs(runs, "test_accuracy", ".1%")
    wrong, right = of_runs(runs, "flips_fitted", ".0%"), of_runs(runs, "right_fitted", ".1%")
    return (
        f"{TRAIN:,} messages of {', '.join(GROUPS)}, cut to {TOKENS} tokens; {FLIPPED:.0%} of the labels flipped to "
        "one of the other groups; MiniLM (22.7 M parameters) with a new head, all of it fine-tuned by `Trainer` for "
        f"{EPOCHS} epochs, in {seconds} s of processor time. Accuracy on {tested} of held-out messages; it has fitted "
        f"{wrong} of the flipped labels and {right} of the others. Influence is by a part of the parameters, the "
        f"others held: {each}. Means over {len(runs)} seeds (other messages, flips and training); intervals of 95 % "
        "are over examples, flipped and others resampled apart."
    )


def of_runs(runs: list[dict[str, Any]], name: str, form: str) -> str:
    return "/".join(format(run[name], form) for run in runs)


def drawn(found: dict[str, dict[str, list[float]]]) -> Figure:
    """Shares of flips found, of the orders that say most."""
    shown = [name for name in found if "margin" not in name]
    at = [f"{share:.0%}" for share in FRACTIONS]
    return plots.curves_with_bands(
        [0.0, *FRACTIONS],
        {name: [0.0, *(found[name][each][0] for each in at)] for name in shown},
        {name: tuple([0.0, *(found[name][each][end] for each in at)] for end in (1, 2)) for name in (OURS, "loss")},
        xlabel="Training messages checked (share)",
        ylabel="Flipped labels found (share)",
        title=f"20 Newsgroups, MiniLM fine-tuned: {FLIPPED:.0%} of labels flipped",
    )
