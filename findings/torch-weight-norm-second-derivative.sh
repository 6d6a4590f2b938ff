#!/usr/bin/env bash
# torch's weight norm (both of torch.nn.utils, through torch._weight_norm) is right in first derivatives and wrong in
# second ones: the Hessian of a loss in (g, v) is not even symmetric, without an error or a warning. Written out as
# g * v / v.norm(), the same function has the right one.
#
# Versions: torch 2.13.0, Python 3.11.
# Seen:     asymmetry of the Hessian, of its largest entry: 7e-01 (written out: 2e-16)
set -euo pipefail
VERSION=2.13.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "torch==$VERSION" "numpy==2.4.6"
seen=$("$work/venv/bin/python" - <<'PY'
import torch

torch.manual_seed(0)
v, g, x = torch.randn(2, 3).double(), torch.rand(2, 1).double() + 0.5, torch.randn(5, 3).double()
said = []
for norm in (torch._weight_norm, lambda v, g: v * (g / (v * v).sum(1, keepdim=True).sqrt())):
    def loss(flat):
        return torch.tanh(x @ norm(flat[:6].reshape(2, 3), flat[6:].reshape(2, 1)).T).pow(2).sum()

    hessian = torch.autograd.functional.hessian(loss, torch.cat([v.flatten(), g.flatten()]))
    said.append(float((hessian - hessian.T).abs().max() / hessian.abs().max()))
wrong = said[0] > 1e-3 and said[1] < 1e-12
print(f"{'wrong' if wrong else 'right'}: asymmetry of the Hessian {said[0]:.0e}, written out {said[1]:.0e}")
PY
)
echo "torch $VERSION: $seen"
[[ "$seen" == wrong:* ]] || { echo "changed: it is symmetric now"; exit 1; }
