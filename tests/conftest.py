"""Shapes and types of every signature are checked while the tests run; seeds are fixed; small problems to share."""

import signal
from collections.abc import Iterator

import pytest
import torch
from jaxtyping import config as jaxtyping_config

import typechecker

ROOMS = [
    *("objective", "losses", "measurements", "data", "parameters", "positions"),
    *("attribution", "estimators", "problem", "checks", "engine", "kept"),
    *("checkpoints", "predictions", "frameworks", "adapters", "wrappers"),
    *(
        "gradients",
        "linalg",
        "curvature",
        "inverse",
        "quantities",
        "planning",
        "baselines",
        "influence",
        "ensemble",
        "retraining",
        "evaluation",
        "tasks",
        "tabular",
        "diagnostics",
        "replay",
    ),
]
# Before anything imports upweight.
typechecker.install([f"upweight.{room}" for room in ROOMS])

pytest.register_assert_rewrite(*(f"{room}.interface" for room in ("inverse", "curvature", "executors", "gradients")))

import problems  # noqa: E402
import slow  # noqa: E402
import thinned  # noqa: E402
from upweight import errors  # noqa: E402

errors.WRAPPERS.add(typechecker.__name__)  # its lines aren't the user's


def pytest_configure(config: pytest.Config) -> None:
    # Here and not in pyproject.toml: pytest resolves a filter's class when it starts, which would import
    # upweight before the hook.
    config.addinivalue_line("filterwarnings", "error::upweight.errors.UpweightWarning")
    torch.set_num_threads(1)
    # A shell's background jobs ignore interrupts, and so would the processes that tests interrupt.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # pytest -m "not slow" is the quick lane.
    long = slow.listed()
    named = [(item.nodeid.partition("[")[0], item) for item in items]
    for function, item in named:
        if function in long:
            item.add_marker(pytest.mark.slow)
    for item in thinned.left_to_the_exhaustive_run(named, thinned.listed()):
        item.add_marker(pytest.mark.exhaustive)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No run-time checks, as for users: what a function says itself when it is given the wrong thing."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture(params=["ridge", "logistic", "softmax"])
def convex(request: pytest.FixtureRequest) -> problems.Problem:
    """A convex problem at its optimum."""
    return problems.convex(request.param)


@pytest.fixture(params=["ridge", "logistic", "softmax", "mlp"])
def trained(request: pytest.FixtureRequest) -> problems.Problem:
    """A problem at an optimum, convex or a local one of a small tanh network."""
    return problems.mlp() if request.param == "mlp" else problems.convex(request.param)
