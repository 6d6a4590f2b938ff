#!/usr/bin/env bash
# The derivative of torch's hardsigmoid (and with it MobileNetV3's squeeze-and-excitation) is the single-precision 1/6
# also in float64: off by 3e-8 of its value, which gradient checks in double precision at their usual tolerances show;
# and it has no second derivative, where clamp(x/6 + 1/2, 0, 1), the same function, has both.
#
# Versions: torch 2.13.0, Python 3.11.
# Seen:     slope - 1/6 = 5.0e-09 (by clamp: 0.0e+00); second derivative: RuntimeError
set -euo pipefail
VERSION=2.13.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "torch==$VERSION" "numpy==2.4.6"
seen=$("$work/venv/bin/python" - <<'PY'
import torch

x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
slopes = [
    float(torch.autograd.grad(f(x), x)[0]) - 1 / 6
    for f in (torch.nn.functional.hardsigmoid, lambda x: (x / 6 + 0.5).clamp(0, 1))
]
(slope,) = torch.autograd.grad(torch.nn.functional.hardsigmoid(x), x, create_graph=True)
try:
    torch.autograd.grad(slope, x)
    second = "there"
except RuntimeError as error:
    second = type(error).__name__
print(f"slope - 1/6 = {slopes[0]:.1e} (by clamp: {slopes[1]:.1e}); second derivative: {second}")
PY
)
expected="slope - 1/6 = 5.0e-09 (by clamp: 0.0e+00); second derivative: RuntimeError"
echo "torch $VERSION: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
