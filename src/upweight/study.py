"""Study files: a Python file that says which model and which queries the command line is to look at.

A study file has a function ``study()`` (or a variable of that name) that gives a `Study`, or a tuple
``(objective, queries)``:

    def study():
        ...
        return upweight.Study(objective, (test_images, test_labels), class_names=names)
"""

from __future__ import annotations

import importlib.util
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from upweight import kinds, scalars
from upweight.checks.arguments import class_names as checked_class_names
from upweight.errors import InputError
from upweight.objective import Objective

if TYPE_CHECKING:
    import pandas as pd

NAME = "study"
SUFFIX = ".py"


@dataclass(frozen=True, eq=False)
class Study:
    """What to explain.

    Attributes
    ----------
    objective
        The trained model with its training data.
    queries
        Examples in the form of the training data.
    query_ids
        A name for each query (default: its position).
    class_names
        Names of the classes, in order of their numbers (default: the objective's).
    images, query_images
        Pictures of the training examples and of the queries, in the forms that `upweight.plots.pixels` takes.
    table, query_table
        What is known of the training examples and of the queries, a row each: shown beside scores, and what
        `upweight domain-mismatch` chooses its group by (default: ``objective.columns``).
    tokens, query_tokens
        Of texts: what each token of every training example and of every query reads, a list of texts each, in the
        order of the model's positions. Reports colour them by their scores. (Default: as the tokenizer of an objective
        of transformers says.)
    retrain
        A function of an objective with other training data that gives it with its model trained on them, for
        `upweight clean`. Default: models whose outputs are linear in θ are minimised; others can't be retrained.
    network
        Where the objective is a top on frozen features: the network from stored images (``images``, as levels 0 … 255)
        to them. `upweight attack` goes through it.

    Raises
    ------
    InputError
        If something isn't what it should be, or the numbers of names, images and examples differ.
    """

    objective: Objective
    queries: Any
    query_ids: Sequence[Any] | None = None
    class_names: Sequence[str] | None = None
    images: Any = None
    query_images: Any = None
    network: Any = None
    table: pd.DataFrame | None = None
    query_table: pd.DataFrame | None = None
    tokens: Sequence[Sequence[str]] | None = None
    query_tokens: Sequence[Sequence[str]] | None = None
    retrain: Callable[[Objective], Objective] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.objective, Objective):
            raise InputError(
                f"objective: got {type(self.objective).__name__}; give upweight.Objective(model, loss, data) or "
                "upweight.from_estimator(estimator, X, y)"
            )
        kinds.check_fields(self)
        own = checked_class_names(self.class_names)
        object.__setattr__(self, "class_names", self.objective.class_names if own is None else own)
        queries = len(self.objective.queries(self.queries))
        n = self.objective.n
        expected = dict.fromkeys(("query_ids", "query_images", "query_table", "query_tokens"), queries)
        expected |= dict.fromkeys(("images", "table", "tokens"), n)
        for name, count in expected.items():
            given = getattr(self, name)
            sized = hasattr(given, "__len__") and getattr(given, "ndim", 1) > 0
            if given is not None and (not sized or len(given) != count):
                got = len(given) if sized else scalars.shown(given)
                raise InputError(f"{name}: got {got}; give one for each of the {count} examples")
        if (self.tokens is None) != (self.query_tokens is None):
            missing = "tokens" if self.tokens is None else "query_tokens"
            raise InputError(f"{missing}: got none; give the tokens of training examples and of queries, or neither")
        if self.network is not None and not callable(self.network):
            raise InputError(f"network: got {type(self.network).__name__}; give an nn.Module or a function of images")


def load(path: str | os.PathLike[str]) -> Study:
    """Run a study file and return its study.

    Raises
    ------
    InputError
        If there is no such file, it has no ``study``, that gives something else, or an exception is raised in it;
        the message then shows the line.
    """
    return _study_of(run(path), path)


def load_with(path: str | os.PathLike[str], name: str, gives: str) -> tuple[Study, Any]:
    """The same, with what another function of the file gives; ``gives`` says what that is to be.

    Raises
    ------
    InputError
        As for `load`; also if there is no such function.
    """
    module = run(path)
    other = _given(module, name, path, gives)
    return _study_of(module, path), other


def _study_of(module: ModuleType, path: str | os.PathLike[str]) -> Study:
    return _as_study(_given(module, NAME, path, "upweight.Study(objective, queries)"), str(path))


def _given(module: ModuleType, name: str, path: str | os.PathLike[str], gives: str) -> Any:
    """What a function of a study file gives, or a variable is."""
    if not hasattr(module, name):
        raise InputError(f"{path}: defines no {name!r}; add a function {name}() that returns {gives}")
    found = getattr(module, name)
    if not callable(found):
        return found
    with _own_errors(Path(path).resolve(), str(path)):
        return found()


def run(path: str | os.PathLike[str]) -> ModuleType:
    """Run a study file without calling its ``study()``: what it defines can then be unpickled.

    Raises
    ------
    InputError
        If there is no such file, or an exception is raised in it; the message then shows the line.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise InputError(f"{path}: there is no such file")
    if file.suffix.lower() != SUFFIX:
        raise InputError(f"{path}: is no study file; give a Python file ({SUFFIX}) that defines {NAME}()")
    with _own_errors(file, str(path)):
        return _run(file)


def _as_study(found: Any, path: str) -> Study:
    if isinstance(found, Study):
        return found
    if isinstance(found, tuple) and len(found) == 2:
        return Study(*found)
    raise InputError(
        f"{path}: {NAME} gives {type(found).__name__}; return upweight.Study(objective, queries) or a tuple "
        "(objective, queries)"
    )


def _run(file: Path) -> ModuleType:
    """Import the file under a name of its own; its neighbours can be imported, as when it is run as a script.

    The folder of a package comes last on the path and its parent first: a neighbour such as `sklearn.py` hides no
    library of that name.
    """
    name = f"upweight_study_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file, loader=_Source(name, str(file)))
    if spec is None or spec.loader is None:
        raise InputError(f"{file}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    _look_beside(file)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Source(SourceFileLoader):
    """Compiles the file as it stands: compiled files are told apart by their second and size alone, and go stale."""

    def get_code(self, fullname: str) -> CodeType:
        """Of the source itself."""
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _look_beside(file: Path) -> None:
    root = next(folder for folder in file.parents if not (folder / "__init__.py").exists())
    if sys.path[:1] != [str(root)]:
        sys.path.insert(0, str(root))
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))


@contextmanager
def _own_errors(file: Path, path: str) -> Iterator[None]:
    """Exceptions of the study as one message with the line of the file that they came from."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it raises: sys.exit, and what no `except Exception` takes
        if isinstance(error, SyntaxError) and error.filename == str(file):
            raise InputError(f"{path}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}") from error
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        if not frames:
            raise InputError(f"{path}: {_told(error)}") from error
        linecache.checkcache(str(file))
        line = linecache.getline(str(file), frames[-1].lineno or 0).strip()
        raise InputError(
            f"{path}, line {frames[-1].lineno}, in {frames[-1].name}: {_told(error)}\n    {line}"
        ) from error


def _told(error: BaseException) -> str:
    """Our own words need no class; others' do: ``KeyError: 'x'``."""
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
