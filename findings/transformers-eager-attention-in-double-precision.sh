#!/usr/bin/env bash
# Eager attention takes its softmax in float32 whatever the model's precision, and masks with the least number of that
# precision: in float64 this is -inf once it is float32. A place that may look nowhere (padding on the left) is then NaN,
# and with it the loss of the tokens that count; in float32, and with attn_implementation="sdpa", all is finite. A model
# that is made double for exact curvature so loses its loss, not just its exactness.
#
# Versions: transformers 5.24.0, torch 2.13.0 (CPU), Python 3.11.
# Seen:     Llama: eager float32 finite, eager float64 NaN, sdpa float32 finite, sdpa float64 finite;
#           Mistral: the same
set -euo pipefail
TRANSFORMERS=5.24.0
TORCH=2.13.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "torch==$TORCH" "transformers==$TRANSFORMERS"
seen=$("$work/venv/bin/python" -W ignore - <<'PY'
import torch
import torch.nn.functional as F
import transformers

transformers.logging.set_verbosity_error()
tokens = torch.tensor([[3, 4, 5, 6, 7, 8], [0, 0, 0, 0, 8, 9]])
labels = tokens.masked_fill(tokens == 0, -100)
said = []
for name in ("Llama", "Mistral"):
    words = []
    for way in ("eager", "sdpa"):
        for dtype in (torch.float32, torch.float64):
            torch.manual_seed(0)
            config = getattr(transformers, f"{name}Config")(
                vocab_size=20, hidden_size=8, intermediate_size=10, num_hidden_layers=1, num_attention_heads=2,
                num_key_value_heads=1, pad_token_id=0, attn_implementation=way,
            )
            model = getattr(transformers, f"{name}ForCausalLM")(config).to(dtype).eval()
            with torch.no_grad():
                logits = model(input_ids=tokens, attention_mask=(tokens > 0).long()).logits
            loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:])
            finite = "finite" if bool(loss.isfinite()) else "NaN"
            words.append(f"{way} {str(dtype).removeprefix('torch.')} {finite}")
    said.append(f"{name}: {', '.join(words)}")
print("; ".join(said))
PY
)
each="eager float32 finite, eager float64 NaN, sdpa float32 finite, sdpa float64 finite"
expected="Llama: $each; Mistral: $each"
echo "transformers $TRANSFORMERS, torch $TORCH: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
