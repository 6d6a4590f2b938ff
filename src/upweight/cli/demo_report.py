"""The page that `upweight demo` writes."""

from __future__ import annotations

from upweight import plots
from upweight.cli.layout import meaning_block
from upweight.cli.verify import agreement_facts
from upweight.demo import CHECKED, FLIPPED, GALLERY, L2, LEFT_OUT, Demo
from upweight.report import Block, Facts, Figure, Images, Report, Table, Text, Warnings


def make_report(found: Demo, warnings: list[str]) -> Report:
    """Label errors found, one error explained, the proof, and what each number means."""
    digits = found.digits
    flips = int(digits.flipped.sum())
    tenth = found.recovery("out-of-sample loss")[1]
    summary = (
        f"{flips} of {len(digits.given):,} training labels ({FLIPPED:.0%}) were flipped before a softmax regression "
        f"was trained. Checking the most suspicious tenth of the data finds {tenth:.0%} of them.\n\n"
        f"For one wrong prediction, the page shows the training images that mattered most; {LEFT_OUT} models, "
        f"retrained without one image each, changed as predicted: Pearson {found.verification.pearson:.4f}, slope "
        f"{found.verification.slope:.3f}."
    )
    return (
        Report("upweight on digits", summary)
        .section("The model", Facts(_model(found)), Warnings(warnings))
        .section("Finding flipped labels", *_finding(found))
        .section("Explaining one wrong prediction", *_explaining(found))
        .section("Checked by retraining", *_checking(found))
    )


def _model(found: Demo) -> dict[str, object]:
    return {
        "training images": found.objective.n,
        "parameters": found.objective.p,
        "λ (l2)": L2,
        "‖∇R‖": float(found.objective.gradient().norm()),
        "test images": len(found.digits.test_labels),
        "test accuracy": found.accuracy,
        **{f"seconds {task}": seconds for task, seconds in found.seconds.items()},
    }


def _finding(found: Demo) -> list[Block]:
    digits = found.digits
    recovered = [[name, *found.recovery(name), found.auc[name]] for name in found.orders]
    curve = plots.recovery_curve(
        {name: order for name, order in found.orders.items() if name != "random"}, digits.flipped
    )
    top = found.errors.order[:GALLERY]
    suggested = found.errors.predictions.predicted
    captions = [
        f"labelled {digits.given[i]}, suggested {int(suggested[i])}"
        + (f" – flipped, was {digits.true[i]}" if digits.flipped[i] else " – not flipped")
        for i in top
    ]
    return [
        meaning_block(found.errors.attribution.quantity, found.errors.attribution.magnitude),
        Figure(
            curve,
            "The higher the curve, the fewer images must be looked at.",
            "Share of the flipped labels found against the share of the training data checked, by method",
        ),
        Table(
            ["ranked by", *(f"found after {share:.0%}" for share in CHECKED), "AUC"],
            recovered,
            "Share of the flipped labels found by checking this share of the data; AUC: the probability that a "
            "flipped label ranks before a right one.",
        ),
        Images(
            [digits.train[i].reshape(8, 8) for i in top],
            captions,
            caption=f"The {GALLERY} most suspicious training images.",
        ),
    ]


def _explaining(found: Demo) -> list[Block]:
    digits, query = found.digits, found.query
    given, predicted = int(found.test.given[query]), int(found.test.predicted[query])
    quantity = found.explanation.attribution.quantity
    shown = found.examples()
    captions = [
        f"labelled {digits.given[i]}{' (flipped)' if digits.flipped[i] else ''}, {score:+.3g} {quantity.unit}"
        for _, i, score in shown
    ]
    bars = plots.ranking_bars(
        [f"{i}: labelled {digits.given[i]}{' (flipped)' if digits.flipped[i] else ''}" for _, i, _ in shown],
        [score for _, _, score in shown],
        unit=quantity.unit,
        quantity=quantity.name,
    )
    return [
        Images(
            [digits.test[query].reshape(8, 8)],
            [f"image {query}: labelled {given}, predicted {predicted}; loss {float(found.test.losses[query]):.2f}"],
        ),
        meaning_block(quantity, found.explanation.attribution.magnitude),
        Images(
            [digits.train[i].reshape(8, 8) for _, i, _ in shown],
            captions,
            [side for side, _, _ in shown],
            "Without a helpful image the loss on the test image would rise, without a harmful one it would fall.",
        ),
        Figure(bars, "The images above.", "Bars of the scores of the most helpful and most harmful training images"),
    ]


def _checking(found: Demo) -> list[Block]:
    checked = found.verification
    return [
        Text(
            f"Each of the {LEFT_OUT} training images of largest influence was left out in turn, and the model "
            "retrained to its optimum. A point on the diagonal is a loss that changed just as predicted."
        ),
        Figure(
            checked.figure(), "Each point is a training image left out.", "Actual over predicted changes of the loss"
        ),
        Facts(agreement_facts(checked), digits=4),
    ]
