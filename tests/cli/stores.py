"""A study and a table that become stores, and decisions about their examples, for `upweight explore` and `clean`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from upweight.explore import Contents, Session

from .conftest import Run

STUDY = """
import numpy as np, pandas as pd, torch
import upweight as uw
from upweight import retraining
N = 60
def study():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N + 40, 3, generator=generator, dtype=torch.float64)
    y = (x @ torch.tensor([[2.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-1.0, 0.0, 2.0]], dtype=torch.float64)).argmax(1)
    y[:6] = (y[:6] + 1) % 3
    model = {model}
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (x[:N], y[:N]), l2=0.01)
    table = pd.DataFrame({{"note": [f"=1+{{k}}" for k in range(N)]}})
    return uw.Study({fitted}, (x[N:], y[N:]), class_names=["a", "b", "c"], table=table{more})
{rest}
"""
LINEAR = {
    "model": "torch.nn.Linear(3, 3, dtype=torch.float64)",
    "fitted": "retraining.fit(objective)",
    "more": "",
    "rest": "",
}
NETWORK = {
    "model": "torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()",
    "fitted": "objective", "more": "", "rest": "",
}  # fmt: skip


def study(folder: Path, **parts: str) -> Path:
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(STUDY).format(**parts))
    return path


def decided(store: str | Path, *, relabel: dict[int, str] | None = None, exclude: tuple[int, ...] = ()) -> Contents:
    contents = Contents(store)
    session = Session(contents, "me")
    for position, label in (relabel or {}).items():
        session.look(position)
        session.decide("relabel", label)
    for position in exclude:
        session.look(position)
        session.decide("exclude")
    return contents


def refusal(run: Run, *words: object) -> str:
    result = run(*words, "--json")
    assert result.exit_code == 1
    return str(json.loads(result.stdout)["error"]["message"])


def prices(path: Path, rows: int = 120) -> pd.DataFrame:
    """Rooms, area and zone with a price, in two rows of which it is far off."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"rooms": random.integers(1, 8, rows), "area": random.normal(80, 20, rows).round(1)})
    frame["zone"], frame["times"] = random.choice(["a", "b", "c"], rows), random.integers(1, 3, rows)
    frame["price"] = (30 * frame["rooms"] + 25 * frame["area"] + random.normal(0, 20, rows)).round(2)
    frame.loc[[17, 40], "price"] += [900.5, -1200.25]
    frame["price"] = frame["price"].round(2)
    written = frame.assign(price=[f"{price:.2f} €".replace(".", ",") for price in frame["price"]])
    written.to_csv(path, sep=";", index=False)
    return frame
