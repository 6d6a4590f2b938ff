#!/usr/bin/env bash
# Batch-norm's kernels write running means and variances, and the tensors' version counters stay as they were: who keeps
# a buffer while its _version is the same keeps an old one. An in-place operation of Python's counts, as it should.
#
# Versions: torch 2.13.0, Python 3.11.
# Seen:     running_mean changed, _version 1 before and 1 after; 2 after add_(0)
set -euo pipefail
VERSION=2.13.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "torch==$VERSION" "numpy==2.4.6"
seen=$("$work/venv/bin/python" - <<'PY'
import torch

norm = torch.nn.BatchNorm1d(3)
mean = norm.running_mean
before, kept = mean._version, mean.clone()
norm(torch.randn(8, 3) + 1)
after = mean._version
changed = not torch.equal(mean, kept)
mean.add_(0)
silent = changed and after == before and mean._version > after
print(f"{'silent' if silent else 'counted'}: changed {changed}, _version {before} before and {after} after, then {mean._version}")
PY
)
echo "torch $VERSION: $seen"
[[ "$seen" == silent:* ]] || { echo "changed: the version counts now"; exit 1; }
