"""Run every experiment, each in a process of its own, and gather RESULTS.md. ``QUICK=1``: minutes, on less data."""

from __future__ import annotations

import os
import subprocess
import sys

from experiments.results import gather

EXPERIMENTS = [
    "experiments.koh_liang.fig1_components",
    "experiments.koh_liang.fig2_leave_one_out",
    "experiments.koh_liang.fig2_non_convex",
    "experiments.koh_liang.fig3_smooth_hinge",
    "experiments.koh_liang.fig4_understanding",
    "experiments.koh_liang.fig5_attack",
    "experiments.koh_liang.domain_mismatch",
    "experiments.koh_liang.fig6_mislabels",
    "experiments.koh_liang.fig6_cnn",
    "experiments.gif.negative_curvature",
    "experiments.gif.solvers",
    "experiments.gif.selection",
    "experiments.gif.comparison",
    "experiments.gif.backdoor",
    "experiments.facts.tracing",
    "experiments.facts.answers",
    "experiments.facts.peer",
    "experiments.facts.filtering",
    "experiments.language.minilm",
    "experiments.language.minilm_retrained",
    "experiments.expansion.points",
    "experiments.expansion.seeds",
    "experiments.expansion.lengths",
    "experiments.choice.rules",
    "experiments.language.agreement",
    "experiments.language.damping",
    "experiments.language.points",
    "experiments.language.example",
    "experiments.steps.metric",
    "experiments.facts.leaks",
]
"""``python -m experiments.reproduce gif`` runs those of one paper alone."""


def main() -> int:
    failed = []
    wanted = [module for module in EXPERIMENTS if not sys.argv[1:] or module.split(".")[1] in sys.argv[1:]]
    for module in wanted:
        print(f"== {module}", flush=True)
        # A process each, so that peak memory is that experiment's own.
        if subprocess.run([sys.executable, "-m", module], check=False).returncode:
            failed.append(module)
    folders = ["koh_liang", "gif", "facts", "language", "expansion", "choice", "steps"]
    print(f"wrote {gather(folders, quick=bool(os.environ.get('QUICK')))}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
