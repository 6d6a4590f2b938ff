"""What holds for every plot: its style, its words, and what it refuses."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from figures import texts
from upweight import plots


def drawn():
    """Every plot with sound input."""
    return [
        plots.predicted_against_actual([1.0, 2.0], [1.0, 3.0], title="t"),
        plots.recovery_curve({"a": [0]}, [True, False], title="t"),
        plots.example_grid(np.zeros((2, 3, 3)), ["a", "b"], title="t"),
        plots.score_histogram([1.0, -2.0], unit="", quantity="q", title="t"),
        plots.influence_against([1.0, 2.0], [1.0, 2.0], xlabel="x", unit="", title="t"),
        plots.ranking_bars(["a"], [1.0], unit="", quantity="q", title="t"),
        plots.perturbation(np.zeros((3, 3)), np.zeros((3, 3)), title="t"),
        plots.accuracy_after_fixing([0.0, 0.1], {"a": [0.8, 0.9]}, before=0.8, clean=0.95, title="t"),
        plots.group_by_rank([1.0, -2.0, 0.0], [True, False, False], group="g", quantity="q", unit="", title="t"),
        plots.classwise_bars(["a", "b"], {"before": [1.0, 0.5], "after": [0.0, 0.5]}, removed=[0], title="t"),
        plots.curves_with_bands(
            [0.0, 1.0], {"a": [1.0, 2.0]}, {"a": ([0, 1], [2, 3])}, xlabel="", ylabel="", title="t"
        ),
        plots.residual_curves({"a": [1.0, 0.1, 0.0], "b": [0.0]}, tolerance=0.01, title="t"),
        plots.accuracy_by_ratio([0.05, 1], {"a": [[0.9, 0], [0.8, 0.1]]}, before=(0.9, 0.9), title="t"),
        plots.residuals_by_leverage([0.2, 0.5, 1.0], [1.0, -2.0, np.nan], 1.7, labels=["a", "b", "c"], title="t"),
        plots.estimates(["a", "b"], [1.0, 0.5], [0.9, 0.5], [1.1, 0.5], xlabel="x", reference=0.2, title="t"),
        plots.measure_by_row([1.0, np.nan, -2.0], quantity="q", marks=[-1.5, 1.5], labels=["a", "b", "c"], title="t"),
    ]


def test_every_plot_is_a_figure_with_its_title():
    for figure in drawn():
        assert isinstance(figure, Figure)
        assert "t" in texts(figure)


def test_no_style_of_the_user_enters_and_none_is_left_behind():
    with matplotlib.rc_context({"axes.facecolor": "black", "figure.facecolor": "black", "text.color": "white"}):
        before = dict(matplotlib.rcParams)
        figures = drawn()
        assert dict(matplotlib.rcParams) == before
    assert all(figure.get_facecolor() == (1, 1, 1, 1) for figure in figures)


def test_pyplot_is_never_loaded():
    code = "import sys; from upweight import plots; plots.score_histogram([1.0], unit='', quantity='');"
    subprocess.run([sys.executable, "-c", code + "assert 'matplotlib.pyplot' not in sys.modules"], check=True)


SQUARE = np.ones((2, 2))
BAD = [
    (lambda: plots.classwise_bars(["a"], {}), "accuracies: give one or more models"),
    (lambda: plots.classwise_bars(["a"], {"m": [0.5], "k": [0.5, 0.6]}), r"accuracies\['k'\]: got 2"),
    (lambda: plots.classwise_bars(["a"], {"m": [50.0]}), r"accuracies\['m'\]: shares in 0 … 1; got 50 … 50"),
    (lambda: plots.residual_curves({}), "histories: got none"),
    (lambda: plots.residual_curves({"a": []}), r"histories\['a'\]: got an empty array"),
    (lambda: plots.residual_curves({"a": [1.0, -1.0]}), r"histories\['a'\]: got -1"),
    (lambda: plots.accuracy_by_ratio([0.0], {"a": [[1, 1]]}), "ratios: shares of the units above 0 .* got 0 … 0"),
    (lambda: plots.accuracy_by_ratio([0.1], {}), "accuracies: got none"),
    (lambda: plots.accuracy_by_ratio([0.1], {"a": [1, 1]}), r"accuracies\['a'\]: got shape \(2,\)"),
    (lambda: plots.accuracy_by_ratio([0.1], {"a": [[90, 1]]}), r"accuracies\['a'\]: shares in 0 … 1; got 1 … 90"),
    (lambda: plots.accuracy_by_ratio([0.1], {"a": [[1, 1]]}, {"b": [[0, 0]]}), r"deviations: \['b'\] have no"),
    (lambda: plots.accuracy_by_ratio([0.1], {"a": [[1, 1]]}, retrained=(0.5,)), r"retrained: got shape \(1,\)"),
    (lambda: plots.estimates(["a"], [1.0], [0.0, 1.0], [2.0], xlabel=""), r"low: got shape \(2,\), but values has"),
    (lambda: plots.predicted_against_actual([], []), "predicted: got an empty array"),
    (lambda: plots.predicted_against_actual([1.0, 2.0], [1.0]), r"actual: got shape \(1,\), but predicted has \(2,\)"),
    (lambda: plots.predicted_against_actual([1.0, np.nan], [1.0, 2.0]), "predicted: 1 of 2 .* nan at 1"),
    (lambda: plots.predicted_against_actual([[1.0]], [1.0]), r"actual: got shape \(1,\), but predicted has \(1, 1\)"),
    (lambda: plots.predicted_against_actual(["a"], [1.0]), "predicted: got dtype"),
    (lambda: plots.predicted_against_actual([1.0], [1.0], standard_error=[-1.0]), "standard_error: .* -1.0"),
    (lambda: plots.predicted_against_actual([1.0], [1.0], labels=["a", "b"]), "labels: got 2"),
    (lambda: plots.recovery_curve({}, [True]), "orders: got no method"),
    (lambda: plots.recovery_curve({"a": [0]}, [False]), "flipped: none of 1 is True"),
    (lambda: plots.recovery_curve({"a": [0]}, [3]), "flipped: .* True or False"),
    (lambda: plots.recovery_curve({"a": [0, 2]}, [True, False]), r"orders\['a'\]: got 2"),
    (
        lambda: plots.recovery_curve({"a": [0, 0]}, [True, False]),
        r"orders\['a'\]: position 0 is checked 2 times",
    ),
    (lambda: plots.recovery_curve({"a": [0.5]}, [True, False]), r"orders\['a'\]: got 0.5"),
    (lambda: plots.example_grid([], []), "images: got none"),
    (
        lambda: plots.accuracy_after_fixing([0.0], {"a": [0.8, 0.9]}, before=0.8, clean=0.9),
        r"accuracy\['a'\]: got shape \(2,\), but checked has \(1,\)",
    ),
    (
        lambda: plots.group_by_rank([1.0], [True, False], group="g", quantity="q", unit=""),
        "members: got 2, but there are 1 scores",
    ),
    (lambda: plots.group_by_rank([1.0], [True], group="g", quantity="q", unit=""), "members: all 1 are in the group"),
    (
        lambda: plots.group_by_rank([0.0, 0.0], [True, False], group="g", quantity="q", unit=""),
        "scores: all 2 are 0",
    ),
    (lambda: plots.example_grid([np.zeros((2, 2))], ["a", "b"]), "captions: got 2, but images has 1"),
    (lambda: plots.example_grid([np.zeros((2, 2, 7))], ["a"]), r"images\[0\]: got shape \(2, 2, 7\)"),
    (lambda: plots.example_grid([np.full((2, 2), np.inf)], ["a"]), r"images\[0\]: 4 of 4 .* inf at \(0, 0\)"),
    (lambda: plots.example_grid([np.zeros((2, 2))], ["a"], columns=0), "columns: got 0"),
    (lambda: plots.score_histogram([], unit="", quantity=""), "scores: got an empty array"),
    (lambda: plots.score_histogram([np.inf], unit="", quantity=""), "scores: 1 of 1 .* inf at 0"),
    (
        lambda: plots.influence_against([1.0], [1.0, 2.0], xlabel="", unit=""),
        r"scores: got shape \(2,\), but x has \(1,\)",
    ),
    (lambda: plots.influence_against([1.0], [1.0], groups=[], xlabel="", unit=""), "groups: got 0"),
    (lambda: plots.ranking_bars(["a"], [1.0, 2.0], unit="", quantity=""), "labels: got 1"),
    (lambda: plots.ranking_bars(range(201), np.zeros(201), unit="", quantity=""), "scores: got 201"),
    (lambda: plots.perturbation(np.zeros((2, 2)), np.zeros((3, 3))), r"gradient: .*\(3, 3\).*\(2, 2\)"),
    (lambda: plots.predicted_against_actual(SQUARE[:1], SQUARE[:, :1]), r"actual: got shape \(2, 1\), .* \(1, 2\)"),
    (lambda: plots.predicted_against_actual(SQUARE, SQUARE + np.inf), r"actual: 4 of 4 .* inf at \(0, 0\)"),
    (lambda: plots.predicted_against_actual(SQUARE, SQUARE, standard_error=np.ones(4)), r"standard_error: .*\(4,\)"),
    (lambda: plots.predicted_against_actual(SQUARE, SQUARE, labels=["a", "b"]), "labels: got 2, but predicted has 4"),
    (lambda: plots.predicted_against_actual(np.ones(4), np.ones(4), labels=SQUARE), "labels: got 2"),
    (lambda: plots.influence_against(SQUARE[0], SQUARE, xlabel="", unit=""), r"scores: got shape \(2, 2\), .*\(2,\)"),
    (lambda: plots.influence_against(SQUARE, SQUARE, groups=[1, 2], xlabel="", unit=""), "groups: got 2, but x has 4"),
    (lambda: plots.score_histogram(SQUARE * np.nan, unit="", quantity=""), r"scores: 4 of 4 .* at \(0, 0\)"),
    (lambda: plots.residuals_by_leverage([0.1], [1.0, 2.0], 1), r"residuals: got shape \(2,\) and hat \(1,\)"),
    (lambda: plots.residuals_by_leverage([1.0], [2.0], 1), "residuals: every row has leverage 1"),
    (lambda: plots.residuals_by_leverage([0.1], [np.nan], 1), "residuals: none of 1 values is defined"),
    (lambda: plots.residuals_by_leverage([0.1], [1.0], 0), "parameters: give a finite number > 0; got 0"),
    (lambda: plots.residuals_by_leverage([0.1], [1.0], 1, labels=[]), "labels: got 0, but hat has 1"),
    (lambda: plots.measure_by_row([], quantity=""), "values: got an empty array"),
    (lambda: plots.measure_by_row([[1.0]], quantity=""), r"values: got shape \(1, 1\); give one dim"),
    (lambda: plots.measure_by_row([np.inf], quantity=""), "values: none of 1 values is defined"),
    (lambda: plots.measure_by_row([1.0], quantity="", marks=["a"]), "marks: give a finite number; got 'a'"),
    (lambda: plots.ranking_bars(["a"], [[1.0]], unit="", quantity=""), r"scores: got shape \(1, 1\); give one dim"),
]


@pytest.mark.parametrize(("draw", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_what_cannot_be_drawn_is_refused_by_name(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


RAW = r"_ $\frac$"  # as mathematics this is an error, and a legend leaves out what begins with "_"


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.predicted_against_actual(
            [1.0, 2.0], [1.0, 3.0], unit=RAW, quantity=RAW, labels=[RAW, RAW], title=RAW
        ),
        lambda: plots.recovery_curve({RAW: [0]}, [True, False], quantity=RAW, title=RAW),
        lambda: plots.example_grid(np.zeros((1, 3, 3)), [RAW], title=RAW),
        lambda: plots.score_histogram([1.0, -2.0], unit=RAW, quantity=RAW, signs=(RAW, RAW), title=RAW),
        lambda: plots.influence_against([1.0], [1.0], groups=[RAW], xlabel=RAW, unit=RAW, quantity=RAW, title=RAW),
        lambda: plots.ranking_bars([RAW], [1.0], unit=RAW, quantity=RAW, signs=(RAW, RAW), title=RAW),
        lambda: plots.perturbation(np.zeros((3, 3)), np.zeros((3, 3)), unit=RAW, quantity=RAW, caption=RAW, title=RAW),
        lambda: plots.classwise_bars([RAW], {RAW: [1.0]}, title=RAW),
        lambda: plots.residual_curves({RAW: [1.0]}, ylabel=RAW, note=RAW, title=RAW),
        lambda: plots.accuracy_by_ratio([0.1], {RAW: [[1, 1]]}, note=RAW, title=RAW),
        lambda: plots.residuals_by_leverage([0.1], [1.0], 1, labels=[RAW], title=RAW),
        lambda: plots.measure_by_row([1.0], quantity=RAW, marks=[0.5], labels=[RAW], title=RAW),
    ],
)
def test_user_text_is_drawn_as_it_is(draw):
    assert sum(RAW in text for text in texts(draw())) >= 2
