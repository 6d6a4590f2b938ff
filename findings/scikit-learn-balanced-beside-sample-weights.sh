#!/usr/bin/env bash
# class_weight="balanced" beside sample_weight: LogisticRegression and LinearSVC balance the classes' total weights, so
# that a weight of 20 is the row twenty times; SVC, RidgeClassifier and SGDClassifier balance the numbers of rows,
# whatever their weights, and give other coefficients for the two.
#
# Versions: scikit-learn 1.9.1, Python 3.11.
# Seen:     weights as repeated rows: LogisticRegression yes, LinearSVC yes, SVC no, RidgeClassifier no
set -euo pipefail
VERSION=1.9.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "scikit-learn==$VERSION"
seen=$("$work/venv/bin/python" - <<'PY'
import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.svm import SVC, LinearSVC

random = np.random.default_rng(0)
X = random.normal(size=(60, 3))
y = (X[:, 0] + random.normal(size=60) > 0).astype(int)
times = np.where(y == 1, 20, 1)
said = []
for estimator in (
    LogisticRegression(class_weight="balanced", tol=1e-10),
    LinearSVC(class_weight="balanced", tol=1e-10, max_iter=10**6),
    SVC(kernel="linear", class_weight="balanced", tol=1e-10),
    RidgeClassifier(class_weight="balanced"),
):
    weighted = estimator.fit(X, y, sample_weight=times.astype(float)).coef_.copy()
    repeated = estimator.fit(np.repeat(X, times, axis=0), np.repeat(y, times)).coef_
    same = np.allclose(weighted, repeated, rtol=1e-4)
    said.append(f"{type(estimator).__name__} {'yes' if same else 'no'}")
print("weights as repeated rows: " + ", ".join(said))
PY
)
expected="weights as repeated rows: LogisticRegression yes, LinearSVC yes, SVC no, RidgeClassifier no"
echo "scikit-learn $VERSION: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
