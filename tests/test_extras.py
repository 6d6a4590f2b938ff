"""Scores need the core's packages alone; whatever else is asked for names its package and the line that installs it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from upweight import optional
from upweight.errors import MissingExtraError

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "upweight"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "charset_normalizer": "charset-normalizer"}
"""Where a package is imported by another name than it is installed by."""
ROOMS_OF_EXTRAS = ("plots", "report", "sklearn", "tabular", "explore", "cli", "demo.py")
"""Rooms that may import extras at their top: nothing of the core imports them there."""
CLUSTERS = ("ray", "slurm")
"""Extras that only those need who have one: no part of the extra that is called all."""
FETCHED = {"efficientnet_lite_pytorch"}
"""What `datasets` fetches and reads as source."""
EXTRAS = sorted({package for packages in optional.EXTRAS.values() for package in packages})

HIDDEN = f"""
import sys
from importlib.machinery import PathFinder

class Rest(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {EXTRAS} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Rest
"""
"""As if no extra were installed."""

PROBLEM = """
import torch
import upweight as uw

torch.manual_seed(0)
X, y = torch.randn(30, 3, dtype=torch.float64), torch.arange(30) % 3
model = torch.nn.Linear(3, 3, dtype=torch.float64)
objective = uw.retraining.fit(uw.Objective(model, uw.losses.CrossEntropy(), (X, y), l2=0.1))
attribution = uw.Influence(objective).attribute((X[:2], y[:2]))
"""

SCORES = """
from pathlib import Path

for inverse in (uw.inverse.CG(damping=0.1), uw.inverse.EKFAC(), uw.inverse.Dual(), uw.inverse.Nystrom(rank=4)):
    uw.Influence(objective, inverse=inverse).attribute((X[:2], y[:2]))
influence = uw.Influence(objective)
influence.self_influence(), influence.plan(queries=2), repr(attribution)
influence.generalized(uw.Removal([0]), parameters=uw.select.highest_output(0.5))
influence.verify((X[:2], y[:2]), k=3)
uw.tasks.explain(influence, (X[:2], y[:2]))
attribution.save(Path(sys.argv[1]) / "scores")
assert torch.equal(uw.Attribution.load(Path(sys.argv[1]) / "scores").scores, attribution.scores)
"""

DOORS = {
    "tables": {
        "Attribution.to_pandas": "attribution.to_pandas()",
        "Ranking.to_pandas": "attribution.top(2).to_pandas()",
        "Explanation.to_pandas": "uw.tasks.explain(objective, (X[:2], y[:2])).to_pandas()",
        "Verification.to_pandas": "uw.Influence(objective).verify((X[:1], y[:1]), k=2).to_pandas()",
        "tasks.label_errors": "uw.tasks.label_errors(objective)",
        "tasks.domain_mismatch": "uw.tasks.domain_mismatch(objective, (X, y), train_group=y == 0)",
        "MislabelDetection": "uw.evaluation.MislabelDetection()",
        "from_estimator": "uw.from_estimator(object(), X, y)",
        "Statistics.to_pandas": "statistics().to_pandas()",
        "upweight.tabular": "import upweight.tabular",
        "upweight.sklearn": "uw.sklearn.LabelErrors",
        "tasks.target_errors": "uw.tasks.target_errors(objective)",
    },
    "plots": {
        "plots.score_histogram": "uw.plots.score_histogram(attribution.scores[0])",
        "plots.predicted_against_actual": "uw.Influence(objective).verify((X[:1], y[:1]), k=2).figure()",
        "plots.residuals_by_leverage": "statistics().figure()",
    },
    "report": {"upweight.report": "uw.report.Report"},
    "explore": {"the map": "import numpy, upweight.explore.map as m; m.Map.of(numpy.ones(2), numpy.ones(2)).picture()"},
    "text": {"similarity.bm25": "uw.similarity.bm25(['a b', 'c'], ['a'])"},
    "ray": {"executors.Ray": "uw.executors.Ray(1)"},
    "slurm": {"executors.Slurm": "uw.executors.Slurm(1, folder=sys.argv[1])"},
    "data": {
        "upweight.datasets": "os.environ.pop('UPWEIGHT_CACHE', None); uw.datasets.load('mnist')",
        "the data set 'mnist'": "os.environ['UPWEIGHT_CACHE'] = sys.argv[1]; uw.datasets.load('mnist')",
    },
}
"""For each extra what needs it, as the message calls it, and how one comes there."""

KNOCKED = """
import json, os

def statistics():
    squared = uw.Objective(torch.nn.Linear(3, 1, dtype=torch.float64), uw.losses.SquaredError(0.5), (X, X @ X[0]))
    return uw.statistics(uw.retraining.fit(squared))

said = {}
for code in json.loads(sys.argv[2]):
    try:
        exec(code)
        said[code] = "nothing"
    except Exception as error:
        said[code] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


def ran(code: str, *arguments: str, fails: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == fails, done.stderr
    return done


@pytest.mark.slow
def test_scores_need_no_extra(tmp_path: Path) -> None:
    ran(HIDDEN + PROBLEM + SCORES, str(tmp_path))


@pytest.mark.slow
def test_scores_import_no_extra_that_is_installed(tmp_path: Path) -> None:
    brought = "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    with_the_core = ran(f"import sys, torch, scipy.stats, zarr, rich; {brought}").stdout
    found = ran("import sys\n" + PROBLEM + SCORES + brought, str(tmp_path)).stdout.splitlines()[-1]
    ours = set(ast.literal_eval(found)) - set(ast.literal_eval(with_the_core))
    assert not ours & set(EXTRAS)


def test_the_package_is_imported_without_its_dependencies() -> None:
    names = "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    found = set(ast.literal_eval(ran(f"import sys, upweight; {names}").stdout))
    assert not found & {*EXTRAS, "torch", "numpy", "scipy", "zarr", "jaxtyping", "rich"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["explain", "--help"], ["data", "list"], ["demo", "-x"]]
)
def test_the_command_answers_before_torch_is_in_memory(arguments: list[str]) -> None:
    begun = f"import contextlib, sys; sys.argv = {['upweight', *arguments]}; from upweight.cli import main"
    found = ran(f"{begun}\nwith contextlib.suppress(SystemExit): main()\nprint('torch' in sys.modules)")
    assert found.stdout.endswith("False\n")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    codes = [code for doors in DOORS.values() for code in doors.values()] + ["uw.datasets.load('digits')"]
    folder = str(tmp_path_factory.mktemp("cache"))
    answers: dict[str, str] = json.loads(ran(HIDDEN + PROBLEM + KNOCKED, folder, json.dumps(codes)).stdout)
    return answers


@pytest.mark.slow
@pytest.mark.parametrize(("extra", "by"), [(extra, by) for extra, doors in DOORS.items() for by in doors])
def test_a_missing_extra_is_named_with_its_line(extra: str, by: str, said: dict[str, str]) -> None:
    answer = said[DOORS[extra][by]]
    needed = "|".join(optional.EXTRAS[extra])
    line = re.escape(f"pip install 'upweight[{extra}]'")
    assert re.fullmatch(
        f"MissingExtraError: {re.escape(by)} needs ({needed}), which is not installed; {line}", answer
    ), answer


@pytest.mark.slow
def test_the_digits_name_the_line_too(said: dict[str, str]) -> None:
    assert "scikit-learn, which is not installed" in said["uw.datasets.load('digits')"]
    assert said["uw.datasets.load('digits')"].endswith("to mend it: pip install 'upweight[data]'")


def test_the_command_says_what_to_install() -> None:
    message = "the upweight command needs typer, which is not installed; pip install 'upweight[cli]'"
    command = HIDDEN + "from upweight.cli import main; main()"
    plain, as_json = (ran(command, *words, fails=1) for words in (["--help"], ["label-errors", "a.csv", "--json"]))
    assert (plain.stdout, plain.stderr) == ("", message + "\n")
    assert json.loads(as_json.stdout) == {"error": {"kind": "MissingExtraError", "message": message}}


def test_a_fault_within_an_installed_package_stays_as_it_is() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match="no_such_part") as caught,
        optional.imported("tables", "a test"),
    ):
        import no_such_part  # noqa: F401
    assert not isinstance(caught.value, MissingExtraError)


def test_a_room_names_its_own_extra() -> None:
    with (
        pytest.raises(MissingExtraError, match=r"a page needs matplotlib, .*upweight\[report\]") as caught,
        optional.imported("report", "a page"),
        optional.imported("plots", "a figure"),
    ):
        raise ModuleNotFoundError("No module named 'matplotlib.figure'", name="matplotlib.figure")
    assert caught.value.name == "matplotlib"


def distributions(requirements: list[str]) -> set[str]:
    """The packages of a list, those of extras within it too."""
    found: set[str] = set()
    for each in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", each).groups()  # type: ignore[union-attr]
        if name == "upweight":
            for extra in extras.split(","):
                found |= distributions(PROJECT["optional-dependencies"][extra])
        else:
            found.add(name)
    return found


def imports(file: Path) -> Iterator[tuple[str, bool]]:
    """Packages of others that a file imports, and whether it does so whenever it is imported itself."""

    def walk(node: ast.AST, at_top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((name.name.partition(".")[0], at_top) for name in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield (child.module or "").partition(".")[0], at_top
            typed_only = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            yield from walk(child, at_top and not typed_only and not isinstance(child, ast.FunctionDef))

    for name, at_top in walk(ast.parse(file.read_text(encoding="utf-8")), True):
        if name != "upweight" and name not in sys.stdlib_module_names:
            yield name, at_top


def test_the_core_has_few_dependencies() -> None:
    assert len(PROJECT["dependencies"]) <= 7
    every = distributions([f"upweight[{extra}]" for extra in optional.EXTRAS])
    assert distributions(["upweight[all]"]) == every - distributions([f"upweight[{extra}]" for extra in CLUSTERS])
    assert every <= distributions(PROJECT["optional-dependencies"]["dev"])
    assert not every & distributions(PROJECT["dependencies"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("tables", "import upweight.tabular; attribution.to_pandas()"),
        ("plots", "uw.plots.score_histogram(attribution.scores[0], quantity='removal', unit='nats')"),
        ("report", "uw.report.Report('A page', 'Some words').save(sys.argv[1] + '/page.html')"),
        ("data", "uw.datasets.names(), uw.datasets.load('digits')"),
        ("slurm", "list(uw.executors.Slurm(1, folder=sys.argv[1], cluster='debug').run([1], lambda: str))"),
    ],
)
def test_an_extra_is_enough_alone(extra: str, code: str, tmp_path: Path) -> None:
    own = set(optional.EXTRAS[extra])
    own |= {"PIL"} if "matplotlib" in own else set()  # which these bring themselves
    own |= {"joblib", "threadpoolctl", "cloudpickle"} if "sklearn" in own else set()
    hidden = sorted(set(EXTRAS) - own)
    ran(HIDDEN.replace(str(EXTRAS), str(hidden)) + PROBLEM + code, str(tmp_path))


@pytest.mark.parametrize("extra", optional.EXTRAS)
def test_an_extra_brings_what_it_is_said_to(extra: str) -> None:
    said = {DISTRIBUTIONS.get(package, package) for package in optional.EXTRAS[extra]}
    assert said == distributions(PROJECT["optional-dependencies"][extra])


def test_every_import_is_declared_and_those_of_extras_are_lazy() -> None:
    core = distributions(PROJECT["dependencies"])
    declared = core | distributions(["upweight[all]", *(f"upweight[{extra}]" for extra in CLUSTERS)])
    for file in sorted(SOURCE.rglob("*.py")):
        for package, at_top in imports(file):
            name = DISTRIBUTIONS.get(package, package)
            assert name in declared or package in FETCHED, f"{file}: {package} is no dependency"
            room = file.relative_to(SOURCE).parts[0]
            assert name in core or not at_top or room in ROOMS_OF_EXTRAS, f"{file}: {package} is imported at its top"
