#!/usr/bin/env bash
# `Trainer` with gradient accumulation takes a step that is as many times too long as there are parts, for heads whose
# forward takes **kwargs without using `num_items_in_batch`: it leaves the division to the model, which doesn't divide.
# One step of SGD on the same eight texts by `BertForSequenceClassification`, without dropout: as one batch of eight, and
# as four of two. Both are the step of one batch of eight by the arguments' names; the second is four times as long.
#
# Versions: transformers 5.24.0, accelerate 1.15.0, torch 2.13.0.
# Seen:     length of the step in four parts over that in one: 4.00
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0 accelerate==1.15.0
cat > "$work/step.py" <<'PY'
import copy
import sys
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

torch.manual_seed(0)
small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
still = {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0, "classifier_dropout": 0}
start = BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=3, **small, **still))
texts = [{"input_ids": torch.randint(20, (6,)), "labels": torch.tensor(k % 3)} for k in range(8)]


def step(texts_of_a_part, parts):
    model = copy.deepcopy(start)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, per_device_train_batch_size=texts_of_a_part, gradient_accumulation_steps=parts, max_steps=1,
            learning_rate=0.01, lr_scheduler_type="constant", max_grad_norm=0, optim="sgd", weight_decay=0,
            report_to=[], use_cpu=True, disable_tqdm=True, save_strategy="no", logging_strategy="no",
        )
        Trainer(model, settings, train_dataset=texts).train()
    pairs = zip(start.parameters(), model.parameters(), strict=True)
    return torch.cat([(before - after).detach().flatten() for before, after in pairs])


one, four = step(8, 1), step(2, 4)
ratio = float(four.norm() / one.norm())
print(f"length of the step in four parts over that in one: {ratio:.2f}")
sys.exit(abs(ratio - 4) > 0.01)
PY
OMP_NUM_THREADS=1 "$work/venv/bin/python" "$work/step.py" 2>/dev/null || { echo "changed; expected: 4.00"; exit 1; }
