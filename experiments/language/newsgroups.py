"""Messages of five newsgroups, some of whose labels are flipped, and MiniLM fine-tuned on them by `Trainer`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from platformdirs import user_cache_path

from upweight import datasets

QUICK = bool(os.environ.get("QUICK"))
GROUPS = ("rec.autos", "rec.motorcycles", "sci.electronics", "sci.med", "sci.space")
TRAIN, TEST = (100, 50) if QUICK else (600, 300)
FLIPPED = 0.1
TOKENS = 32 if QUICK else 64
EPOCHS = 1 if QUICK else 3
BATCH, RATE, DECAY, WARM = 16, 2e-4, 0.01, 0.1
SETTINGS = {
    **{"groups": GROUPS, "train": TRAIN, "test": TEST, "flipped": FLIPPED, "tokens": TOKENS, "epochs": EPOCHS},
    **{"batch": BATCH, "rate": RATE, "decay": DECAY, "warm": WARM},
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Messages:
    """Rows as `Trainer` takes them, with the labels that are right.

    ``train`` has the labels as given, a tenth of them flipped to one of the other groups; ``test`` has right ones.
    """

    train: list[Row]
    test: list[Row]
    truth: np.ndarray
    flipped: np.ndarray


def messages(seed: int, tokenizer: Any) -> Messages:
    """Messages drawn from each group alike, tokens of their beginnings, and flips: of this seed."""
    news = datasets.load("20-newsgroups")
    generator = np.random.default_rng(seed)
    numbers = [news.classes.index(name) for name in GROUPS]
    train = _drawn(generator, news.train_labels, numbers, TRAIN)
    test = _drawn(generator, news.test_labels, numbers, TEST)
    truth = np.array([numbers.index(label) for label in news.train_labels[train]])
    flipped = np.zeros(len(train), dtype=bool)
    flipped[generator.choice(len(train), round(FLIPPED * len(train)), replace=False)] = True
    given = np.where(flipped, (truth + generator.integers(1, len(GROUPS), len(train))) % len(GROUPS), truth)
    tested = np.array([numbers.index(label) for label in news.test_labels[test]])
    shown = [
        {"right label": GROUPS[right], "flipped": bool(wrong)} for right, wrong in zip(truth, flipped, strict=True)
    ]
    made = rows([news.train_texts[k] for k in train], given, tokenizer)
    return Messages(
        [{**row, **more} for row, more in zip(made, shown, strict=True)],
        rows([news.test_texts[k] for k in test], tested, tokenizer),
        truth,
        flipped,
    )


def rows(texts: Sequence[str], labels: np.ndarray, tokenizer: Any) -> list[Row]:
    """The beginning of each text as tokens, with its label and what of it was kept."""
    encoded = tokenizer(list(texts), truncation=True, max_length=TOKENS, return_offsets_mapping=True)
    ends = [max(stop for _, stop in offsets) for offsets in encoded.pop("offset_mapping")]
    return [
        {
            "text": text[:end],
            "label": int(label),
            **{name: encoded[name][k] for name in ("input_ids", "attention_mask")},
        }
        for k, (text, end, label) in enumerate(zip(texts, ends, labels, strict=True))
    ]


def fine_tuned(train: list[Row], tokenizer: Any, seed: int) -> tuple[transformers.Trainer, float]:
    """MiniLM with a new head, after its training, and the processor seconds that took; an equal training is kept."""
    kept = _place(train, seed)
    transformers.set_seed(seed)
    source = kept if kept.exists() else folder()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source, id2label=dict(enumerate(GROUPS)))
    arguments = transformers.TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        weight_decay=DECAY,
        warmup_steps=WARM,
        seed=seed,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=train, processing_class=tokenizer)
    if kept.exists():
        trainer.create_optimizer()
        trainer.optimizer.load_state_dict(torch.load(kept / "optimizer.pt"))
        return trainer, json.loads((kept / "seconds.json").read_text())
    began = time.process_time()
    trainer.train()
    seconds = time.process_time() - began
    draft = Path(tempfile.mkdtemp(dir=kept.parent))
    model.save_pretrained(draft)
    torch.save(trainer.optimizer.state_dict(), draft / "optimizer.pt")
    (draft / "seconds.json").write_text(json.dumps(seconds))
    try:
        draft.rename(kept)
    except OSError:  # another process was first
        shutil.rmtree(draft)
    return trainer, seconds


def _place(train: list[Row], seed: int) -> Path:
    """Where a training on these rows is kept."""
    content = json.dumps([SETTINGS, seed, [[row["input_ids"], row["label"]] for row in train]])
    place = user_cache_path("upweight") / "experiments" / f"minilm-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def tokenizer() -> Any:
    """MiniLM's own."""
    return transformers.AutoTokenizer.from_pretrained(folder())


def folder() -> str:
    """Where the pretrained model is, fetched first where it isn't there."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return str(datasets.load("minilm-l6").folder)


def _drawn(generator: np.random.Generator, labels: np.ndarray, groups: list[int], total: int) -> np.ndarray:
    """Positions of as many messages of each group, in an order by chance."""
    each = total // len(groups)
    drawn = [generator.choice(np.flatnonzero(labels == group), each, replace=False) for group in groups]
    return generator.permutation(np.concatenate(drawn))


def logits(trainer: transformers.Trainer, given: list[Row]) -> torch.Tensor:
    """``[rows, groups]`` of the trained model."""
    found = trainer.predict([{**row} for row in given]).predictions
    return torch.from_numpy(np.asarray(found))
