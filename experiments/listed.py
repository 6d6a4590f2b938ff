"""Every experiment: its rows of RESULTS.md, the data that it can't do without, and what a size of run leaves out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Experiment:
    """A script.

    Attributes
    ----------
    name
        Within `experiments`: ``folder.file``.
    rows
        Of RESULTS.md, by their anchors.
    data
        Data sets and weights, by the names that `upweight.datasets` has for them.
    """

    name: str
    rows: tuple[str, ...]
    data: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """As ``python -m`` takes it."""
        return f"experiments.{self.name}"

    @property
    def folder(self) -> str:
        """That holds it and its results."""
        return self.name.partition(".")[0]


PHOTOS = ("cifar10", "efficientnet-lite0")
NEWS = ("20-newsgroups", "minilm-l6")
EXPERIMENTS = [
    Experiment("koh_liang.fig1_components", ("fig1",), ("mnist",)),
    Experiment("koh_liang.fig2_leave_one_out", ("fig2",), ("mnist",)),
    Experiment("koh_liang.fig2_non_convex", ("fig2_right",), ("mnist",)),
    Experiment("koh_liang.fig3_smooth_hinge", ("fig3",), ("mnist",)),
    Experiment("koh_liang.fig4_understanding", ("fig4",), PHOTOS),
    Experiment("koh_liang.fig5_attack", ("fig5",), PHOTOS),
    Experiment("koh_liang.fig5_together", ("fig5_together",), PHOTOS),
    Experiment("koh_liang.domain_mismatch", ("domain_mismatch",), ("support2",)),
    Experiment("koh_liang.domain_mismatch_adult", ("domain_mismatch_adult",), ("adult",)),
    Experiment("koh_liang.fig6_mislabels", ("fig6",), ("spam-assassin",)),
    Experiment("koh_liang.fig6_cnn", ("fig6_cnn",), ("fashion-mnist",)),
    Experiment("gif.negative_curvature", ("gif_negative",)),
    Experiment("gif.solvers", ("gif_solvers",), ("cifar10",)),
    Experiment("gif.selection", ("gif_selection",), ("cifar10",)),
    Experiment(
        "gif.comparison", ("gif_cifar10", "gif_fashion-mnist", "gif_mnist"), ("cifar10", "fashion-mnist", "mnist")
    ),
    Experiment("gif.backdoor", ("gif_backdoor",), ("mnist",)),
    Experiment("facts.tracing", ("facts_tracing",)),
    Experiment("facts.answers", ("facts_answers",)),
    Experiment("facts.peer", ("facts_peer",)),
    Experiment("facts.filtering", ("facts_filtering",)),
    Experiment("language.minilm", ("minilm_labels", "minilm_explained"), NEWS),
    Experiment("language.minilm_retrained", ("minilm_retrained",), NEWS),
    Experiment("expansion.points", ("expansion_points",), ("mnist",)),
    Experiment("expansion.seeds", ("expansion_seeds",), ("mnist",)),
    Experiment("expansion.lengths", ("expansion_lengths",), ("mnist",)),
    Experiment("choice.rules", ("choice_rules",), ("mnist", "fashion-mnist", "cifar10", "adult", "support2")),
    Experiment("language.agreement", ("language_agreement",), ("shakespeare",)),
    Experiment("language.damping", ("language_damping",), ("shakespeare",)),
    Experiment("language.points", ("language_points",), ("shakespeare",)),
    Experiment("language.example", (), ("shakespeare",)),
    Experiment("steps.metric", ("steps_metric",), ("shakespeare",)),
    Experiment("facts.leaks", ("facts_leaks",)),
]

STAND_INS = (
    "stand-ins for data that no package holds: CIFAR-10 with EfficientNet-Lite0 for ImageNet with Inception-v3, "
    "SUPPORT2 for Diabetes-130, SpamAssassin for Enron1, Fashion-MNIST for SVHN"
)
LEFT_OUT = {
    "QUICK=1": "most of the data, seeds, steps and pixels in every experiment: it shows that all of them run, and no "
    "number of it is to be set beside a paper's. Results go to RESULTS-quick.md",
    "default": "of Fig 2 right 28,000 of the 30,000 steps of retraining, of Fig 5 all but 64 random test images, of "
    "generalised influence the paper's widths of networks and most images of CIFAR-10 (10,000 of 50,000)",
    "FULL=1": "nothing of the two papers but " + STAND_INS + ". By what parts of them took, Fig 5 takes five hours of "
    "a core and Fig 2 right six; generalised influence is for a GPU",
}
"""What a run leaves out, by its size."""


def chosen(names: list[str]) -> list[Experiment]:
    """All of them, or those of some folders or names.

    Raises
    ------
    SystemExit
        If there is no such folder or experiment.
    """
    known = {*folders_of(EXPERIMENTS), *(each.name for each in EXPERIMENTS)}
    if unknown := [name for name in names if name not in known]:
        folders = ", ".join(folders_of(EXPERIMENTS))
        raise SystemExit(
            f"no experiments in {', '.join(unknown)}; there are {folders}, or one such as {EXPERIMENTS[0].name}"
        )
    return [each for each in EXPERIMENTS if not names or {each.folder, each.name} & set(names)]


def folders_of(experiments: list[Experiment]) -> list[str]:
    """In their order, each once."""
    return list(dict.fromkeys(each.folder for each in experiments))
