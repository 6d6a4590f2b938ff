#!/usr/bin/env bash
# `Trainer` divides a causal language model's summed loss by all labels of a step, the first of each text among them, which
# no token predicts: labels are shifted after they were counted. So its loss isn't the mean over predicted tokens, which
# `model(**batch).loss` is, but (T - 1)/T of it for texts of T tokens, and a short text's tokens count less beside long ones
# than in that mean. One step of SGD of a GPT-2 on eight texts of six tokens, over the gradient of the mean over tokens.
#
# Versions: transformers 5.24.0, accelerate 1.15.0, torch 2.13.0.
# Seen:     step over gradient of the mean over predicted tokens: 0.8333 (5/6)
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
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

RATE = 0.01
torch.manual_seed(0)
still = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
start = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2, n_positions=8, **still))
tokens = torch.randint(20, (8, 6))
texts = [{"input_ids": row, "labels": row.clone()} for row in tokens]

mean = copy.deepcopy(start).train()
mean(input_ids=tokens, labels=tokens).loss.backward()
gradient = torch.cat([value.grad.flatten() for value in mean.parameters()])

model = copy.deepcopy(start)
with tempfile.TemporaryDirectory() as folder:
    settings = TrainingArguments(
        folder, per_device_train_batch_size=8, max_steps=1, learning_rate=RATE, lr_scheduler_type="constant",
        max_grad_norm=0, optim="sgd", weight_decay=0, report_to=[], use_cpu=True, disable_tqdm=True,
        save_strategy="no", logging_strategy="no",
    )
    Trainer(model, settings, train_dataset=texts).train()
pairs = zip(start.parameters(), model.parameters(), strict=True)
moved = torch.cat([(before - after).detach().flatten() for before, after in pairs]) / RATE
ratio = float(moved @ gradient / (gradient @ gradient))
print(f"step over gradient of the mean over predicted tokens: {ratio:.4f} (5/6 = {5 / 6:.4f})")
sys.exit(abs(ratio - 5 / 6) > 1e-3)
PY
OMP_NUM_THREADS=1 "$work/venv/bin/python" "$work/step.py" 2>/dev/null || { echo "changed; expected: 0.8333"; exit 1; }
