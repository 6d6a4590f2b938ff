"""`upweight demo`: what the package does, on data that needs no download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upweight.cli.options import FOLDER, AsJson, Force, Output, Quiet, Seed
from upweight.cli.outputs import plan
from upweight.cli.session import Session, session

if TYPE_CHECKING:
    from upweight.demo import Demo


def demo(
    output: Output = FOLDER, seed: Seed = 0, force: Force = False, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Flip labels of the digits, find them, explain an error, prove it by retraining, write a report.

    1,797 images of digits come with scikit-learn. 5 % of the training labels are flipped; a softmax regression is
    trained on them; influence finds the flips and says which training images caused one wrong prediction; and 20
    models are retrained to check what it predicted.
    """
    with session(as_json, quiet) as run:
        from upweight.cli.demo_report import make_report
        from upweight.demo import run as demonstrate

        outputs = plan(output, "index", force=force)
        found = demonstrate(seed, run.stage)
        run.stage("writing the report")
        written = outputs.write({".html": make_report(found, run.warnings).html()})
        if not as_json:
            _show(run, found)
        run.files = {"report": written[".html"]}
        run.result = _as_json(found, seed)
        if not (as_json or quiet):
            run.print(f"finished in {run.seconds:.1f} s")


def _show(run: Session, found: Demo) -> None:
    from upweight.cli.layout import meaning, table
    from upweight.cli.verify import agreement_table
    from upweight.demo import CHECKED

    digits = found.digits
    flips = int(digits.flipped.sum())
    run.show(
        f"Softmax regression on {len(digits.given):,} digits, {flips} labels flipped: {found.accuracy:.1%} of "
        f"{len(digits.test_labels)} test images right.",
        table(
            f"Flipped labels found ({flips} in all), by share of the data checked",
            ["ranked by", *(f"{share:.0%}" for share in CHECKED), "AUC"],
            [
                [name, *(f"{share:.0%}" for share in found.recovery(name)), f"{found.auc[name]:.3f}"]
                for name in found.orders
            ],
        ),
        _explained(found),
        meaning(found.explanation.attribution.quantity, found.explanation.attribution.magnitude),
        agreement_table(found.verification, "Checked by retraining without each of 20 training images"),
    )


def _explained(found: Demo) -> Any:
    from upweight.cli.layout import table
    from upweight.report.numbers import signed

    unit = found.explanation.attribution.quantity.unit
    given, predicted = int(found.test.given[found.query]), int(found.test.predicted[found.query])
    rows = [
        (
            side,
            position,
            found.digits.given[position],
            "flipped" if found.digits.flipped[position] else "",
            signed(score),
        )
        for side, position, score in found.examples()
    ]
    return table(
        f"Test image {found.query}, labelled {given}, predicted {predicted}: the training images that mattered",
        ["", "image", "label", "", f"score [{unit}]"],
        rows,
        sections=[len(rows) // 2 - 1],
    )


def _as_json(found: Demo, seed: int) -> dict[str, Any]:
    from upweight.cli.layout import magnitude_json, meaning_json
    from upweight.cli.verify import agreement_json
    from upweight.demo import CHECKED

    return {
        "seed": seed,
        "train": len(found.digits.given),
        "flipped": int(found.digits.flipped.sum()),
        "test_accuracy": found.accuracy,
        "recovery": {
            name: {f"{share:g}": value for share, value in zip(CHECKED, found.recovery(name), strict=True)}
            for name in found.orders
        },
        "auc": found.auc,
        "explained": {
            "test_image": found.query,
            "label": int(found.test.given[found.query]),
            "predicted": int(found.test.predicted[found.query]),
            "quantity": meaning_json(found.explanation.attribution.quantity),
            "magnitude": magnitude_json(found.explanation.attribution.magnitude),
            "examples": [
                {
                    "side": side,
                    "image": position,
                    "label": int(found.digits.given[position]),
                    "flipped": bool(found.digits.flipped[position]),
                    "score": score,
                }
                for side, position, score in found.examples()
            ],
        },
        "agreement": agreement_json(found.verification),
        "stage_seconds": found.seconds,
    }
