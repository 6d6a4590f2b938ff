"""What cleanlab finds on the same columns, folds and penalty: ``python -m benchmarks.tables.peer FILE.npz``.

Runs in cleanlab's environment, where there is no upweight. Its rankings: the issues that `find_label_issues` names in
its order and then the rest by quality; `Datalab`'s label issues and then the rest by its score; of quantities
`cleanlab.regression.learn.CleanLearning` by its quality. One JSON line.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
import warnings

import numpy as np
from cleanlab import Datalab
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from cleanlab.regression.learn import CleanLearning
from sklearn.linear_model import LogisticRegression, Ridge

CHECKED = (0.05, 0.1, 0.2)
QUALITIES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def recovered(order: np.ndarray, wrong: np.ndarray) -> list[float]:
    """Share of what is wrong among the first checked."""
    return [float(wrong[order[: round(share * len(wrong))]].sum() / wrong.sum()) for share in CHECKED]


def probabilities(design: np.ndarray, given: np.ndarray, fold: np.ndarray, l2: float) -> np.ndarray:
    """Out-of-sample, of the same model on the same folds."""
    found = np.zeros((len(given), 2))
    for number in np.unique(fold):
        inner, outer = fold != number, fold == number
        model = LogisticRegression(C=1 / (l2 * inner.sum()), max_iter=5000).fit(design[inner], given[inner])
        found[outer] = model.predict_proba(design[outer])
    return found


def of_classes(design: np.ndarray, given: np.ndarray, wrong: np.ndarray, fold: np.ndarray, l2: float) -> dict:
    said = probabilities(design, given, fold, l2)
    found = {}
    for quality in QUALITIES:
        named = find_label_issues(given, said, return_indices_ranked_by=quality)
        rest = np.argsort(get_label_quality_scores(given, said, method=quality), kind="stable")
        order = np.concatenate([named, rest[~np.isin(rest, named)]])
        found[f"find_label_issues, {quality}"] = recovered(order, wrong)
    with contextlib.redirect_stdout(io.StringIO()):
        lab = Datalab(data={"label": given.astype(str)}, label_name="label")
        lab.find_issues(pred_probs=said, issue_types={"label": {}})
    issues = lab.get_issues("label")
    order = np.lexsort((issues["label_score"], ~issues["is_label_issue"].to_numpy(bool)))
    found["Datalab"] = recovered(order, wrong)
    return found


def of_quantities(design: np.ndarray, given: np.ndarray, wrong: np.ndarray, l2: float, seed: int) -> dict:
    learner = CleanLearning(Ridge(alpha=l2 * len(given)), seed=seed)
    issues = learner.find_label_issues(design, given)
    quality = issues["label_quality"].to_numpy()
    named = np.lexsort((quality, ~issues["is_label_issue"].to_numpy(bool)))
    return {
        "CleanLearning, by quality": recovered(np.argsort(quality, kind="stable"), wrong),
        "CleanLearning, issues first": recovered(named, wrong),
    }


def main() -> None:
    warnings.simplefilter("ignore")
    with np.load(sys.argv[1]) as held:
        arrays = {name: held[name] for name in ("design", "given", "wrong", "fold")}
        l2 = float(held["l2"])
    start = time.process_time()
    if arrays["given"].dtype.kind == "i":
        found = of_classes(**arrays, l2=l2)
    else:
        del arrays["fold"]  # it makes its own
        found = of_quantities(**arrays, l2=l2, seed=int(sys.argv[2]))
    print(json.dumps({"recovered": found, "seconds": time.process_time() - start}))


if __name__ == "__main__":
    main()
