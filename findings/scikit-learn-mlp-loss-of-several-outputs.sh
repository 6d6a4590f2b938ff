#!/usr/bin/env bash
# MLPRegressor of several outputs descends on half the squared error summed over outputs, but its loss_ (and loss_curve_,
# and what L-BFGS's line search compares) averages over them: loss_ is not the value of what was minimised, and penalty
# and error stand in another proportion in it. Shown on a network without hidden layers: its coefficients are those of
# Ridge with the same alpha, which is the sum's minimum; the mean's would be a Ridge of `outputs` times the alpha.
#
# Versions: scikit-learn 1.9.1, Python 3.11.
# Seen:     as Ridge(1): yes; as Ridge(4): no; loss_ 0.5036 where the sum's is 2.0071
set -euo pipefail
VERSION=1.9.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "scikit-learn==$VERSION"
seen=$("$work/venv/bin/python" - <<'PY'
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPRegressor

random = np.random.default_rng(0)
X, Y = random.normal(size=(50, 3)), random.normal(size=(50, 4))
network = MLPRegressor(
    hidden_layer_sizes=(), solver="sgd", batch_size=50, alpha=1.0, learning_rate_init=0.05, tol=1e-12,
    max_iter=100_000, n_iter_no_change=5000, random_state=0,
).fit(X, Y)  # fmt: skip
same = {a: np.allclose(network.coefs_[0].T, Ridge(alpha=a).fit(X, Y).coef_, atol=1e-6) for a in (1, 4)}
penalty = (network.coefs_[0] ** 2).sum() / 2 / len(X)
summed = ((Y - network.predict(X)) ** 2).sum(1).mean() / 2 + penalty
said = "; ".join(f"as Ridge({a}): {'yes' if found else 'no'}" for a, found in same.items())
print(f"{said}; loss_ {network.loss_:.4f} where the sum's is {summed:.4f}")
PY
)
expected="as Ridge(1): yes; as Ridge(4): no; loss_ 0.5036 where the sum's is 2.0071"
echo "scikit-learn $VERSION: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
