"""The loop of a job: shards that are missing go to an executor, and are counted as they end."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from upweight.executors import Executor
from upweight.jobs.shards import Shard
from upweight.progress import track
from upweight.store.backend import Backend

LOG = "log.jsonl"

Worker = Callable[[Shard], dict[str, Any]]
"""Does a shard, commits what it made, and says what is to be logged of it."""


@dataclass(frozen=True)
class Log:
    """What happened, for programs: a line of JSON each, at the end of a file beside the blocks."""

    backend: Backend

    def add(self, event: str, **facts: Any) -> None:
        """One more line. A log that can't be written stops no job."""
        line = {"time": round(time.time(), 3), "event": event, **facts}
        with suppress(OSError):
            self.backend.append(LOG, (json.dumps(line) + "\n").encode())


def run(
    name: str,
    pending: Sequence[Shard],
    total: int,
    executor: Executor,
    make_worker: Callable[[], Worker],
    done: Callable[[Shard, bool], None],
    log: Log,
) -> None:
    """Do the shards that are missing.

    Parameters
    ----------
    done
        Called with every shard that ends, and whether it is the last.
    total
        Shards of the whole job.

    Raises
    ------
    upweight.executors.TaskFailedError, upweight.executors.WorkerDiedError, InputError
        As the executor does; what has ended until then is committed.
    """
    if not pending:
        return
    log.add(
        "begun", job=name, shards=total, missing=len(pending), workers=executor.workers, process=os.getpid(),
        host=socket.gethostname(),
    )  # fmt: skip
    left, started, examples = len(pending), time.perf_counter(), 0

    def words() -> str:
        seconds = time.perf_counter() - started
        rate = f", {examples / seconds:,.0f} examples/s" if examples else ""
        return f"{name}, shards{rate}"

    try:
        with closing(executor.run(pending, make_worker)) as ended:
            for shard, facts in track(ended, words, len(pending)):
                left -= 1
                examples += shard.stop - shard.start
                done(shard, left == 0)
                log.add("shard", job=name, shard=shard.number, examples=shard.stop - shard.start, **facts)
    except BaseException as error:
        log.add("stopped", job=name, missing=left, error=f"{type(error).__name__}: {error}"[:500])
        raise
    log.add("ended", job=name, seconds=round(time.perf_counter() - started, 3))
