"""results.json as RESULTS.md with a figure, and on the terminal: ``python -m benchmarks.throughput.report``."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmarks.fidelity.environments import NOT_RUN
from benchmarks.fidelity.tables import table
from benchmarks.throughput import figures, record
from benchmarks.throughput.record import Case, Found
from benchmarks.throughput.tables import HEAD, OPERATIONS, WIDTH, cases, failures, lines, note, operations, show

WORDS = {
    "mlp": "MLP 784–256–128–10",
    "resnet-18": "ResNet-18 with GroupNorm, images of 32 × 32",
    "gpt": "GPT of 6 blocks of 384, sequences of 128 characters",
    "gpu-mlp": "MLP 784–256–128–10 on a GPU",
    "gpu-resnet-9": "ResNet-9 on a GPU, images of 32 × 32",
    "gpu-transformer": "transformer of 12 blocks of 768 on a GPU, sequences of 128 characters",
    "gpu-gpt-2": "GPT-2's size on a GPU, sequences of 512 tokens, the head untied and left out",
    "gpu-lstm": "LSTM in evaluation mode on a GPU, sequences of 128 characters",
}


def write(results: Path = record.FILE) -> None:
    """RESULTS.md and its figure beside the results."""
    found = everything(results)
    drawn = figures.write(found, results.parent)
    (results.parent / "RESULTS.md").write_text(markdown(found, drawn=drawn), encoding="utf-8")


def markdown(found: Found, *, drawn: bool) -> str:
    """The page; ``drawn``: whether there is a figure."""
    picture = f"![Stages in multiples of the floor]({figures.NAME})\n\n" if drawn else ""
    sections = "\n".join(section(name, precision, case) for name, precision, case in cases(found))
    bergson = next(f"{name}: {reason}" for name, reason in NOT_RUN.items() if name.startswith("bergson"))
    return f"""# Speed and memory beside peers

Made by `python -m benchmarks.throughput.run` from `results.json`; run it to renew this page. EK-FAC of the empirical
Fisher on untrained networks with random data, from the model to the scores of all queries on all training data: the
same model, data, damping, precision and layers (linear ones and convolutions) for every system, each in a process and
an environment of its own, in turn. Agreement with retraining is measured in [fidelity](../fidelity/RESULTS.md).

**Ratios count**: × floor is a multiple of one plain forward and backward pass over the training data on the same
machine and in the same process; seconds belong to the machine that stands under each table. Stages are in multiples of
the floor too. *Without eigenvectors*: the eigendecompositions depend on the widths only, not on the data, so that they
weigh little where there are many examples. *Set-up* holds our checks of the model, losses and gradients; the peer makes
none. Tokens: training tokens, or examples that have one label, by all seconds. MiB: peak beyond what the process held
before, model and data included. *Operations*: those of products and convolutions, counted by torch in a run of their
own, in multiples of the floor's; eigendecompositions and what is done entry by entry are not among them. Over all
seconds but those of the eigendecompositions, they give the share of a large matrix product's speed. *bfloat16* on a
CPU: torch's setting for products of float32 (`set_float32_matmul_precision("medium")`) around every system and the
floor, which is what our `precision="bfloat16"` sets; the processor decides what it makes of it, and how far each system
is then from its float32 stands under the table.

{picture}{sections}
## Peers that were not run

- {bergson}
"""


def section(name: str, precision: str, case: Case) -> str:
    """One problem in one precision."""
    failed = "".join(f"\n- {line}" for line in failures(case))
    counted = operations(case)
    beside = f"\n\n{table(OPERATIONS, counted)}" if counted else ""
    return f"""## {WORDS[name]}: {precision}

{table(HEAD, lines(case))}{beside}

{note(case)}{failed and chr(10)}{failed}
"""


def everything(results: Path = record.FILE) -> Found:
    """What is in the results, and what `benchmarks.throughput.gpu` wrote beside them."""
    on_gpu = record.load(results.parent / record.GPU)
    return record.load(results) | on_gpu.get("cases", {})


if __name__ == "__main__":
    write()
    show(everything(), Console(width=WIDTH))
