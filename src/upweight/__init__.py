"""upweight: which training examples made a model do this, and what would change without them.

Names are loaded at first use, so that the command line answers before PyTorch and matplotlib are in memory.
"""

import random
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from upweight import (
        curvature,
        datasets,
        diagnostics,
        estimators,
        evaluation,
        executors,
        explore,
        index,
        inverse,
        losses,
        measurements,
        plots,
        replay,
        report,
        retraining,
        select,
        sklearn,
        spans,
        store,
        tasks,
    )
    from upweight.attribution import Attribution, Quantity
    from upweight.baselines import SOURCE, TRAK, TracIn, similarity
    from upweight.diagnostics import statistics
    from upweight.engine import Budget
    from upweight.ensemble import Ensemble
    from upweight.errors import (
        DamagedFileWarning,
        DivergedError,
        InputError,
        KinkWarning,
        MissingExtraError,
        NegativeCurvatureError,
        NegativeCurvatureWarning,
        NotConvergedWarning,
        NotStationaryWarning,
        SlowPathWarning,
        SmallerPassesWarning,
        UpweightWarning,
    )
    from upweight.estimators import from_estimator
    from upweight.frameworks import (
        from_lightning,
        from_trainer,
        from_transformers,
        lightning_recorder,
        trainer_recorder,
    )
    from upweight.influence import Influence
    from upweight.objective import Objective
    from upweight.optimizers import step_metric
    from upweight.penalty import l2_of
    from upweight.quantities.generalized import Relabelling, Removal, Substitution
    from upweight.recommended import recommend
    from upweight.recorder import Recorder, Recording
    from upweight.replay import Replay
    from upweight.retraining import expansion
    from upweight.score_files import read_scores
    from upweight.solve_report import SolveReport
    from upweight.stored import Stored
    from upweight.study import Study

__all__ = [
    "SOURCE",
    "TRAK",
    "Attribution",
    "Budget",
    "DamagedFileWarning",
    "DivergedError",
    "Ensemble",
    "Influence",
    "InputError",
    "KinkWarning",
    "MissingExtraError",
    "NegativeCurvatureError",
    "NegativeCurvatureWarning",
    "NotConvergedWarning",
    "NotStationaryWarning",
    "Objective",
    "Quantity",
    "Recorder",
    "Recording",
    "Relabelling",
    "Removal",
    "Replay",
    "SlowPathWarning",
    "SmallerPassesWarning",
    "SolveReport",
    "Stored",
    "Study",
    "Substitution",
    "TracIn",
    "UpweightWarning",
    "__version__",
    "curvature",
    "datasets",
    "diagnostics",
    "estimators",
    "evaluation",
    "executors",
    "expansion",
    "explore",
    "from_estimator",
    "from_lightning",
    "from_trainer",
    "from_transformers",
    "index",
    "inverse",
    "l2_of",
    "lightning_recorder",
    "losses",
    "measurements",
    "plots",
    "read_scores",
    "recommend",
    "replay",
    "report",
    "retraining",
    "select",
    "similarity",
    "sklearn",
    "spans",
    "statistics",
    "step_metric",
    "store",
    "tasks",
    "trainer_recorder",
]

_HOMES = {
    "Budget": "engine",
    "SolveReport": "solve_report",
    "UpweightWarning": "errors",
    "SlowPathWarning": "errors",
    "SmallerPassesWarning": "errors",
    "NotStationaryWarning": "errors",
    "NotConvergedWarning": "errors",
    "NegativeCurvatureWarning": "errors",
    "NegativeCurvatureError": "errors",
    "KinkWarning": "errors",
    "MissingExtraError": "errors",
    "InputError": "errors",
    "DivergedError": "errors",
    "DamagedFileWarning": "errors",
    "Attribution": "attribution",
    "Ensemble": "ensemble",
    "Influence": "influence",
    "Objective": "objective",
    "Quantity": "attribution",
    "Recorder": "recorder",
    "Recording": "recorder",
    "Relabelling": "quantities.generalized",
    "Removal": "quantities.generalized",
    "Replay": "replay",
    "Stored": "stored",
    "Study": "study",
    "Substitution": "quantities.generalized",
    "SOURCE": "baselines",
    "TRAK": "baselines",
    "TracIn": "baselines",
    "expansion": "retraining",
    "from_estimator": "estimators",
    "from_lightning": "frameworks",
    "from_trainer": "frameworks",
    "from_transformers": "frameworks",
    "l2_of": "penalty",
    "lightning_recorder": "frameworks",
    "read_scores": "score_files",
    "recommend": "recommended",
    "similarity": "baselines",
    "statistics": "diagnostics",
    "step_metric": "optimizers",
    "trainer_recorder": "frameworks",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("upweight")
    if name not in __all__:
        raise AttributeError(f"module 'upweight' has no attribute {name!r}")
    state = random.getstate()  # libraries draw numbers while they are imported
    try:
        if name in _HOMES:
            return getattr(import_module(f"upweight.{_HOMES[name]}"), name)
        return import_module(f"upweight.{name}")
    finally:
        random.setstate(state)


def __dir__() -> list[str]:
    return __all__
