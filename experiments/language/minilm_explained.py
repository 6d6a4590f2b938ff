"""One wrong prediction of the fine-tuned MiniLM, the worst on held-out messages, explained by messages and tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import upweight as uw
from experiments.language.newsgroups import GROUPS, QUICK, Messages
from experiments.results import HERE, Result, table

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
    found = uw.tasks.explain_texts(influence, [data.test[worst]], words, SHOWN, query_ids=[f"test {worst}"])
    found.report("MiniLM's worst mistake on held-out messages").save(PAGE)
    scores = found.attribution.sequence.scores[0].double()
    return {
        "query": worst,
        "text": data.test[worst]["text"][:EXCERPT],
        "label": GROUPS[int(labels[worst])],
        "predicted": GROUPS[int(predicted[worst].argmax())],
        "probability": float(predicted[worst].softmax(0).max()),
        "loss": float(losses[worst]),
        "order": scores.argsort().tolist(),
        "scores": scores.tolist(),
        **{side: [shown(found, side, k) for k in range(SHOWN)] for side in ("helpful", "harmful")},
        "query_tokens": {side: strongest(found.tokens(0, side).query) for side in ("helpful", "harmful")},
        "flipped_share": {
            side: float(data.flipped[order[: round(LEFT_OUT * len(order))]].mean())
            for side, order in (("harmful", scores.argsort()), ("helpful", scores.argsort(descending=True)))
        },
        "unparted": list(found.attribution.remainder),
    }


def shown(found: Any, side: str, rank: int) -> dict[str, Any]:
    """One message of a side with its strongest tokens, and the share of its score at the first token and at none."""
    table = found.to_pandas().query("side == @side").iloc[rank]
    caption, tokens = found.tokens(0, side).texts[rank]
    scores = found.attribution.of(0, int(table.position))
    return {
        "position": int(table.position),
        "score": float(table.score),
        "given": str(table.label),
        "right": str(table["right label"]),
        "text": str(table.text)[:EXCERPT],
        "caption": caption,
        "strongest": strongest(tokens),
        "at_first_token": float(scores.train[0] / scores.sequence),
        "at_no_token": scores.remainder / scores.sequence,
    }


def strongest(tokens: Any, k: int = 6) -> list[str]:
    """The tokens of the largest shares, special ones apart, with their numbers."""
    words = [token for token in tokens if not token.text.strip().startswith("[")]
    return [f"{token.text.strip()} {token.said}" for token in sorted(words, key=lambda each: -abs(each.shares[0]))[:k]]


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
