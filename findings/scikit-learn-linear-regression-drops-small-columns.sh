#!/usr/bin/env bash
# LinearRegression hands its `tol` (1e-6), documented for the sparse solver, to the dense least squares as the cut-off of
# singular values: a column whose spread is a millionth of another's (Unix seconds beside a rate, metres beside
# nanometres) gets a coefficient of nearly 0, without a warning; the fit is as if it were not there. Only rank_ tells.
#
# Versions: scikit-learn 1.9.1, Python 3.11.
# Seen:     rank 1 of 2, R² 0.00; scaled: rank 2 of 2, R² 1.00
set -euo pipefail
VERSION=1.9.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "scikit-learn==$VERSION"
seen=$("$work/venv/bin/python" - <<'PY'
import numpy as np
from sklearn.linear_model import LinearRegression

random = np.random.default_rng(0)
seconds, rate = 1.7e9 + 1e7 * random.normal(size=100), random.normal(size=100)
said = []
for X in (np.c_[seconds, rate], np.c_[(seconds - 1.7e9) / 1e7, rate]):
    fitted = LinearRegression().fit(X, rate)
    said.append(f"rank {fitted.rank_} of 2, R² {fitted.score(X, rate):.2f}")
print("; scaled: ".join(said))
PY
)
expected="rank 1 of 2, R² 0.00; scaled: rank 2 of 2, R² 1.00"
echo "scikit-learn $VERSION: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
