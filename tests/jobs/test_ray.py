"""Jobs on a Ray cluster that loses an actor, a node and the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from disturbed import Disturbed, contents, job
from processes import lives, wait_for
from upweight.executors import Ray

pytest.importorskip("ray", reason="the extra upweight[ray] is not installed")

SCRIPT = """
import sys
from pathlib import Path
from disturbed import Disturbed, job
from upweight.executors import Ray

job(Disturbed(Path(sys.argv[1]), Path(sys.argv[2]), "wait", 1, "part-"), 3, Ray(2, address=sys.argv[3]))
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one processor beside a head that has none."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        found.nodes = [found.add_node(num_cpus=1) for _ in range(2)]
        found.wait_for_nodes()
        yield found
    finally:
        found.shutdown()


def test_an_actor_a_node_and_the_driver_are_lost(cluster: Any, tmp_path: Path) -> None:
    whole, script = tmp_path / "whole", tmp_path / "script.py"
    job(whole, 3)
    script.write_text(SCRIPT)

    # An actor dies at a write; another does its shard again.
    ray = Ray(2, address=cluster.address)
    job(Disturbed(tmp_path / "actor", tmp_path / "notes-actor", "kill", 1, "part-"), 3, ray)
    assert contents(tmp_path / "actor") == contents(whole)

    # The driver dies while an actor waits at a write; the next one goes on, whatever becomes of the actor.
    place, notes = tmp_path / "driver", tmp_path / "notes-driver"
    driver = subprocess.Popen([sys.executable, str(script), str(place), str(notes), cluster.address])
    wait_for((notes / "waits").exists)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    job(place, 3, ray)
    (notes / "go").touch()
    wait_for(lambda: not lives(int((notes / "waits").read_text())))
    job(place, 3)  # clears what came too late
    assert contents(place) == contents(whole)

    # A node dies with what it does.
    place, notes = tmp_path / "node", tmp_path / "notes-node"
    driver = subprocess.Popen([sys.executable, str(script), str(place), str(notes), cluster.address])
    wait_for((notes / "waits").exists)
    cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    (notes / "go").touch()
    assert driver.wait() == 0
    assert contents(place) == contents(whole)
