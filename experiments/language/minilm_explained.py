"""One wrong prediction of the fine-tuned MiniLM, the worst on held-out messages, explained by messages and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import upweight as uw
from experiments.language.newsgroups import GROUPS, QUICK, Messages
from experiments.results import HERE, Result, table
from upweight.tasks import ExplainingExample, Explanation

SHOWN = 5
EXCERPT = 80
"""Characters of a message that the results keep: it isn't ours to publish."""
LEFT_OUT = 0.05 if QUICK else 0.02
"""Share of the messages, from the most harmful, whose flips are counted, and that retraining leaves out."""
PAGE = HERE / "language" / ("quick" if QUICK else "results") / "minilm_explained.html"


def explained(influence: uw.Influence, data: Messages, predicted: torch.Tensor, words: Any) -> dict[str, Any]:
    """The worst mistake among held-out messages with its messages and tokens; writes the page."""
    labels = torch.tensor([row["label"] for row in data.test])
    losses = torch.nn.functional.cross_entropy(predicted, labels, reduction="none")
    worst = int(losses.masked_fill(predicted.argmax(1) == labels, -torch.inf).argmax())
    found = uw.tasks.explain(influence, [data.test[worst]], SHOWN, query_ids=[f"test {worst}"], tokens=words)
    found.page("MiniLM's worst mistake on held-out messages").save(PAGE)
    scores = found.attribution.scores[0].double()
    parted = found.tokens[0].examples
    sides = {"helpful": parted[:SHOWN], "harmful": parted[SHOWN:]}
    whole = influence.attribute([data.test[worst]], by="train-token", train=[each.position for each in parted])
    first = {each.position: float(whole.of(0, k).train[0]) for k, each in enumerate(parted)}
    return {
        "query": worst,
        "text": data.test[worst]["text"][:EXCERPT],
        "label": GROUPS[int(labels[worst])],
        "predicted": GROUPS[int(predicted[worst].argmax())],
        "probability": float(predicted[worst].softmax(0).max()),
        "loss": float(losses[worst]),
        "order": scores.argsort().tolist(),
        "scores": scores.tolist(),
        **{side: [shown(found, each, first[each.position]) for each in examples] for side, examples in sides.items()},
        "query_tokens": {
            side: strongest(found.tokens[0].tokens, np.sum([each.by_query_token for each in examples], axis=0))
            for side, examples in sides.items()
        },
        "flipped_share": {
            side: float(data.flipped[order[: round(LEFT_OUT * len(order))]].mean())
            for side, order in (("harmful", scores.argsort()), ("helpful", scores.argsort(descending=True)))
        },
        "unparted": list(found.tokens[0].remainder),
    }


def shown(found: Explanation, example: ExplainingExample, first: float) -> dict[str, Any]:
    """One message with its strongest tokens, and the share of its score at the first token and at none."""
    known = {name: values[example.position] for name, values in found.columns.items()}
    said = [f"{example.id}", *(f"{name} {value}" for name, value in known.items() if name != "text")]
    return {
        "position": example.position,
        "score": example.sequence,
        "given": str(known["label"]),
        "right": str(known["right label"]),
        "text": str(known["text"])[:EXCERPT],
        "caption": " · ".join([*said, ", ".join(filter(None, (f"{example.sequence:+.3g} nats", example.apart)))]),
        "strongest": strongest(example.tokens, example.by_token),
        "at_first_token": first / example.sequence,
        "at_no_token": example.remainder / example.sequence,
    }


def strongest(tokens: Sequence[str], scores: np.ndarray, k: int = 6) -> list[str]:
    """The tokens of the largest scores, with their numbers."""
    return [f"{tokens[place].strip()} {scores[place]:+.3g}" for place in np.argsort(-np.abs(scores), kind="stable")[:k]]


def result(found: dict[str, Any], run: dict[str, Any], quick: bool) -> Result:
    """The two sides as a table of messages."""
    rows = [
        [side, f"{each['score']:+.4f}", each["given"], each["right"], ", ".join(each["strongest"]), f"{each['text']}…"]
        for side in ("harmful", "helpful")
        for each in found[side]
    ]
    sides = [each for side in ("harmful", "helpful") for each in found[side]]
    first, none = (float(np.mean([abs(each[key]) for each in sides])) for key in ("at_first_token", "at_no_token"))
    return Result(
        id="minilm_explained",
        title="A wrong prediction explained by messages and tokens (MiniLM, fine-tuned)",
        paper="not of a paper",
        ours=f"of the {LEFT_OUT:.0%} most harmful messages {found['flipped_share']['harmful']:.0%} have a flipped "
        f"label, of the most helpful {found['flipped_share']['helpful']:.0%}",
        why=f"The worst mistake on held-out messages: of {found['label']}, taken for {found['predicted']} "
        f"(p = {found['probability']:.3f}): “{found['text']}…”. Scores are by the last two blocks, pooler and "
        "head, as for the labels. The classifier reads the first token alone, and what the last block does at it has "
        f"its position: of a score shown here {first:.0%} stand at [CLS], {none:.0%} at no position (means of "
        "magnitudes)."
        + table(["side", "score [nats]", "label", "right label", "strongest tokens but [CLS] and [SEP]", "text"], rows),
        numbers={"explained": found},
        quick=quick,
        seconds=run["cpu_seconds"],
        peak_memory_gib=run["peak_memory_gib"],
    )
