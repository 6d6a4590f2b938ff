"""What is on disk after a kill at any moment: ``python -m benchmarks.kills [--times 40] [JOB ...]``.

Each job is begun over older results in a folder of its own, killed at a random moment by SIGKILL, SIGTERM or SIGINT
(this one, like Ctrl-C, to all of its processes), looked at, run again to its end, and looked at again. Prints a line
for each job and signal, and fails if anything was lost, half written, left lying about or left running. A folder with a
fault in it stays, and is named. Steps on the disk are slowed a little, so that many kills fall between two of them.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import importlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from upweight import Attribution, Quantity, datasets, files
from upweight.cli.app import app
from upweight.datasets import cache, clients
from upweight.retraining import train_many

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WARM = ("pandas", "sklearn.linear_model", "matplotlib.figure", "zarr", "upweight.cli.sources", "upweight.plots")
"""What every run would import; a fork of this process finds it there."""
FAULTS = ("lost", "half", "left over", "processes left", "wrong")
PATIENCE = 20.0
"""Seconds that processes have to end after a kill, and what was killed by SIGINT to finish what it has begun."""
LONGEST = 120.0
"""Seconds after which a run that was not killed is thought to hang."""
PAUSE = 0.003
"""Seconds before each step on the disk."""
STEPS = ("fsync", "link", "mkdir", "rename", "replace", "unlink")
TOKEN = "UPWEIGHT_KILLS_RUN"
LOG = "UPWEIGHT_KILLS_LOG"
PARAMETERS = 100_000
MODELS = 24
SOURCE = "people.csv"
SET = "shakespeare"

Tell = Callable[[str], object]
"""Says to the process that kills where the run is."""


@dataclass
class Found:
    """What a look at the folder gave: the state in a word, and the faults in words, by their kind."""

    state: str
    faults: list[tuple[str, str]] = field(default_factory=list)


class Job(ABC):
    """Something to be killed. Everything but `run` and what it asks of `apart` stays free of threads: it forks."""

    name = ""
    windows: tuple[tuple[str, str], ...] = (("ready", "done"),)
    """Between which two of its words it is killed, by turns."""

    def prepare(self, place: Path) -> None:  # noqa: B027 (most begin from nothing)
        """Make the state that the run begins from."""

    @abstractmethod
    def run(self, place: Path, tell: Tell) -> None:
        """All of the work, in a process of its own."""

    @abstractmethod
    def killed(self, place: Path) -> Found:
        """What a killed run has left."""

    @abstractmethod
    def ended(self, place: Path) -> Found:
        """What the next run, which wasn't killed, has left."""


class Save(Job):
    """`Attribution.save` over an older one."""

    name = "save"
    shape = (50, 20_000)

    def __init__(self, root: Path):
        self.template = root / "old"
        apart(lambda: self._attribution(0).save(self.template))

    def _attribution(self, seed: int) -> Attribution:
        scores = torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))
        ids = [np.arange(size) for size in self.shape]
        return Attribution(scores, Quantity("loss", "for the kills", "nats", "more", 1), ids[1], ids[0], float(seed))

    def prepare(self, place: Path) -> None:
        """As `Job.prepare`."""
        shutil.copytree(self.template, place / "saved")

    def run(self, place: Path, tell: Tell) -> None:
        """As `Job.run`."""
        new = self._attribution(1)
        tell("ready")
        new.save(place / "saved")

    def killed(self, place: Path) -> Found:
        """As `Job.killed`."""
        return Found(*apart(lambda: self._state(place / "saved")))

    def _state(self, path: Path) -> tuple[str, list[tuple[str, str]]]:
        try:
            found = Attribution.load(path)
        except Exception as error:
            return "none", [("lost", repr(error))]
        for word, expected in (("old", self._attribution(0)), ("new", self._attribution(1))):
            if torch.equal(found.scores, expected.scores) and found.damping == expected.damping:
                return word, []
        return "other", [("half", "neither the old one nor the new one")]

    def ended(self, place: Path) -> Found:
        """As `Job.ended`."""
        found = self.killed(place)
        data = json.loads((place / "saved" / "attribution.json").read_text().split("\n", 1)[1])["data"]
        left = {path.name for path in (place / "saved").iterdir()} - {"attribution.json", data}
        return Found(found.state, found.faults + not_new(found.state) + left_over(left))


class Command(Job):
    """A command that writes a CSV and a report over older ones."""

    windows = (("ready", "done"), ("writing", "written"))
    output: tuple[str, ...] = ("-o", "out.html", "--force")
    names: tuple[str, ...] = ("out.csv", "out.html")

    def __init__(self, root: Path, name: str, command: str, older: Sequence[str]):
        self.name, self.command = name, command
        self.contents: dict[str, dict[str, bytes]] = {}
        for word, options in (("old", older), ("new", ())):
            place = root / word
            place.mkdir()
            (place / SOURCE).write_text(table())
            self.contents.setdefault("old", {SOURCE: (place / SOURCE).read_bytes()})
            self.prepare(place)
            apart(partial(self._call, place, *options))
            self.contents[word] = {file.name: file.read_bytes() for file in place.iterdir()}
        assert self.contents["old"].keys() == {SOURCE, *self.names}
        for suffix in (".csv", ".html"):  # the old and the new can be told apart
            found = {content for each in self.contents.values() for name, content in each.items() if suffix in name}
            assert len(found) == 2 + (suffix in SOURCE)

    def _call(self, place: Path, *options: str) -> None:
        os.chdir(place)
        words = [self.command, SOURCE, "-t", "bought", *self.output, "--quiet", *options]
        app(words, prog_name="upweight", standalone_mode=False)

    def prepare(self, place: Path) -> None:
        """As `Job.prepare`."""
        for name, content in self.contents["old"].items():
            (place / name).write_bytes(content)

    def run(self, place: Path, tell: Tell) -> None:
        """As `Job.run`."""
        write_all = files.write_all

        def telling(*arguments: Any, **options: Any) -> list[Path]:
            tell("writing")
            written = write_all(*arguments, **options)
            tell("written")
            return written

        files.write_all = telling
        tell("ready")
        self._call(place)

    def killed(self, place: Path) -> Found:
        """As `Job.killed`."""
        states, faults = [], []
        for name in self.names:
            if not (place / name).exists():
                faults.append(("lost", name))
                continue
            content = (place / name).read_bytes()
            states.append(next((word for word in ("old", "new") if content == self.contents[word][name]), "half"))
            if states[-1] == "half":
                faults.append(("half", f"{name}, of {len(content)} bytes"))
        if (place / SOURCE).read_bytes() != self.contents["old"][SOURCE]:
            faults.append(("lost", "the input was changed"))
        return Found(" + ".join(dict.fromkeys(states)), faults)

    def ended(self, place: Path) -> Found:
        """As `Job.ended`."""
        found = self.killed(place)
        left = {path.name for path in place.iterdir()} - self.contents["new"].keys()
        return Found(found.state, found.faults + not_new(found.state) + left_over(left))


class Beside(Command):
    """A command that writes into a folder beside older results, which it doesn't replace."""

    output = ("-o", ".")
    names = ("label-errors.csv", "label-errors.html")
    added = re.compile(r"label-errors-[0-9]+(\.csv|\.html)")

    def killed(self, place: Path) -> Found:
        """As `Job.killed`."""
        faults = [("lost", name) for name in (*self.names, SOURCE) if self._is_not_old(place, name)]
        found = [file for file in place.iterdir() if self.added.fullmatch(file.name)]
        new = {file: self.contents["new"][f"label-errors-2{file.suffix}"] for file in found}
        faults += [("half", file.name) for file in found if file.read_bytes() != new[file]]
        return Found({0: "old", 1: "old, half of the new pair"}.get(len(found), "new"), faults)

    def _is_not_old(self, place: Path, name: str) -> bool:
        return not (place / name).exists() or (place / name).read_bytes() != self.contents["old"][name]

    def ended(self, place: Path) -> Found:
        """As `Job.ended`."""
        found = self.killed(place)
        left = {file.name for file in place.iterdir() if not self.added.fullmatch(file.name)} - {*self.names, SOURCE}
        return Found(found.state, found.faults + not_new(found.state) + left_over(left))


class Fetch(Job):
    """`upweight data fetch` into an empty cache, from a slow registry of our own that has this package alone."""

    name = "fetch"

    def __init__(self, root: Path):
        self.info = datasets.info(SET)
        shelf = root / "shelf"
        shelf.mkdir()
        clients.download(SET, self.info.archives[0], shelf)
        server = http.server.HTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(shelf)))
        multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True).start()
        server.socket.close()
        os.environ["PIP_FIND_LINKS"] = f"http://127.0.0.1:{server.server_port}/"
        os.environ["PIP_NO_INDEX"] = "1"
        first = root / "first"
        first.mkdir()
        apart(lambda: self.run(first, str))
        self.expected = self._content(first)
        assert apart(lambda: self._plays(first)) == 38

    def _folder(self, place: Path) -> Path:
        return place / "cache" / "datasets"

    def _content(self, place: Path) -> dict[str, str]:
        entry = self._folder(place) / self.info.key
        return {str(path.relative_to(entry)): cache.sha256(path) for path in entry.rglob("*") if path.is_file()}

    def _plays(self, place: Path) -> int:
        os.environ["UPWEIGHT_CACHE"] = str(place / "cache")
        os.environ["PIP_FIND_LINKS"] = str(place)  # so that nothing could be fetched
        return len(datasets.load(SET).texts)

    def run(self, place: Path, tell: Tell) -> None:
        """As `Job.run`."""
        os.environ["UPWEIGHT_CACHE"] = str(place / "cache")
        tell("ready")
        app(["data", "fetch", SET], prog_name="upweight", standalone_mode=False)

    def killed(self, place: Path) -> Found:
        """As `Job.killed`."""
        found = self._content(place)
        if found and found != self.expected:
            return Found("half", [("half", f"{len(found)} of {len(self.expected)} files, or others")])
        partly = any((self._folder(place) / "partial").rglob("*"))
        return Found("new" if found else "none, partial files" if partly else "none")

    def ended(self, place: Path) -> Found:
        """As `Job.ended`."""
        found = self.killed(place)
        entry, locks = self.info.key, {"locks", f"locks/{SET}.lock", "partial"}
        paths = {str(path.relative_to(self._folder(place))) for path in self._folder(place).rglob("*")}
        left = {path for path in paths - locks if path != entry and not path.startswith(f"{entry}/")}
        faults = found.faults + not_new(found.state) + left_over(left)
        if not faults and apart(lambda: self._plays(place)) != 38:
            faults.append(("wrong", "the data set isn't the one of an unkilled fetch"))
        return Found(found.state, faults)


class Slow(http.server.SimpleHTTPRequestHandler):
    """Sends a file a bit at a time."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Half a second for two megabytes."""
        with suppress(OSError):  # the client was killed
            while part := source.read(100_000):
                outputfile.write(part)
                time.sleep(0.025)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class TrainMany(Job):
    """`train_many` in two worker processes, that are fresh or, of a function that can't be imported, forked."""

    def __init__(self, root: Path, name: str, forked: bool):
        self.name, self.forked = name, forked
        if not forked:  # it takes long for fresh processes to begin
            self.windows = (("ready", "done"), ("training", "done"))
        first = root / "first"
        first.mkdir()
        apart(lambda: self.run(first, str))
        self.expected = (first / "result").read_text()

    def run(self, place: Path, tell: Tell) -> None:
        """As `Job.run`."""
        os.environ[LOG] = str(place / "log")
        jobs = [(torch.arange(5), seed) for seed in range(MODELS)]
        function = (lambda positions, seed: train(positions, seed)) if self.forked else train
        tell("ready")
        if not self.forked:
            threading.Thread(target=self._watch, args=(place / "log", tell), daemon=True).start()
        model = torch.nn.Linear(PARAMETERS - 1, 1)
        found = train_many(function, jobs, model=model, workers=2, folder=place / "models")
        (place / "result").write_text(hashlib.sha256(found.params.numpy().tobytes()).hexdigest())

    def killed(self, place: Path) -> Found:
        """As `Job.killed`."""
        (place / "result").unlink(missing_ok=True)
        done, faults = self._done(place)
        (place / "done").write_text(json.dumps(sorted(done)))
        (place / "log").unlink(missing_ok=True)
        return Found("none" if not done else "all" if len(done) == MODELS else "part", faults)

    def _watch(self, log: Path, tell: Tell) -> None:
        while not log.exists():
            time.sleep(0.002)
        tell("training")

    def _done(self, place: Path) -> tuple[set[int], list[tuple[str, str]]]:
        seeds, faults = set(), []
        for file in (place / "models").glob("*.pt"):
            digest, _, content = file.read_bytes().partition(b"\n")
            if hashlib.sha256(content).hexdigest().encode() == digest:
                seeds.add(int(file.name.split("-")[1]))
            else:
                faults.append(("half", file.name))
        return seeds, faults

    def ended(self, place: Path) -> Found:
        """As `Job.ended`."""
        before = set(json.loads((place / "done").read_text()))
        log = place / "log"
        again = before & set(map(int, log.read_text().split() if log.exists() else ()))
        done, faults = self._done(place)
        if again or len(done) < MODELS:
            faults.append(("lost", f"trained again: {sorted(again)}; models in the end: {len(done)}"))
        if (place / "result").read_text() != self.expected:
            faults.append(("wrong", "the models aren't those of an unkilled run"))
        left = {path.name for path in (place / "models").iterdir() if path.suffix != ".pt"}
        return Found("all", faults + left_over(left))


def train(positions: torch.Tensor, seed: int) -> torch.Tensor:
    """Some parameters, after a short while; writes down that it was called."""
    with open(os.environ[LOG], "a") as log:
        log.write(f"{seed}\n")
    time.sleep(0.05)
    return torch.randn(PARAMETERS, generator=torch.Generator().manual_seed(seed)) + positions.sum()


def table(rows: int = 150) -> str:
    """A small table with some wrong labels."""
    random_numbers = np.random.default_rng(0)
    values = random_numbers.normal(size=(rows, 3)).round(3)
    bought = values[:, 0] + 0.5 * random_numbers.normal(size=rows) > 0
    lines = [f"{a},{b},{c},{'yes' if label else 'no'}" for (a, b, c), label in zip(values, bought, strict=True)]
    return "\n".join(["a,b,c,bought", *lines, ""])


def not_new(state: str) -> list[tuple[str, str]]:
    """A run that wasn't killed gives the new results."""
    return [] if state == "new" else [("wrong", f"after a whole run it is {state!r}")]


def left_over(names: set[str]) -> list[tuple[str, str]]:
    """What should not be there."""
    return [("left over", ", ".join(sorted(names)))] if names else []


MAKERS: dict[str, Callable[[Path], Job]] = {
    "save": Save,
    "label-errors": partial(Command, name="label-errors", command="label-errors", older=("--method", "margin")),
    "label-errors-beside": partial(Beside, name="label-errors-beside", command="label-errors", older=("-m", "margin")),
    "explain": partial(Command, name="explain", command="explain", older=("--row", "3")),
    "fetch": Fetch,
    "train-many": partial(TrainMany, name="train-many", forked=False),
    "train-many-forked": partial(TrainMany, name="train-many-forked", forked=True),
}


def apart(work: Callable[[], Any]) -> Any:
    """The value of a function, called in a fork of this process, which stays free of threads."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def target() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        value = work()
        sender.send(None if isinstance(value, Path) else value)

    process = context.Process(target=target)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def slow_disk() -> None:
    """In this process and its forks."""

    def slow(step: Callable[..., Any]) -> Callable[..., Any]:
        def paused(*arguments: Any, **options: Any) -> Any:
            time.sleep(PAUSE)
            return step(*arguments, **options)

        return paused

    for name in STEPS:
        setattr(os, name, slow(getattr(os, name)))


class Run:
    """One run of a job in a session of its own, and all processes that came of it."""

    def __init__(self, job: Job, place: Path):
        self.token = f"{os.getpid()}-{random.getrandbits(64):x}"
        context = multiprocessing.get_context("fork")
        self.words, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=self._begin, args=(job, place, sender))
        self.process.start()
        sender.close()

    def _begin(self, job: Job, place: Path, sender: Any) -> None:
        os.setsid()
        os.environ[TOKEN] = self.token
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
        log = os.open(place.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        slow_disk()
        job.run(place, sender.send)
        sender.send("done")

    def wait_for(self, word: str) -> bool:
        """Until the run says this; False if it has ended before."""
        try:
            while self.words.poll(LONGEST):
                if self.words.recv() == word:
                    return True
        except EOFError:
            return False
        raise TimeoutError(f"the run never came to {word!r}")

    def ends(self, seconds: float) -> bool:
        """Whether the first process ends by itself in this time; asked of the system, as its pipes may be inherited."""
        end = time.monotonic() + seconds
        while self.process.exitcode is None:
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def alone(self, seconds: float) -> list[str]:
        """The commands of those of its processes that are still there after this time."""
        end = time.monotonic() + seconds
        while (left := list(self._living())) and time.monotonic() < end:
            time.sleep(0.02)
        return left

    def kill(self, way: signal.Signals) -> None:
        """By this signal, to all of its group if that is how a terminal does it."""
        (os.killpg if way == signal.SIGINT else os.kill)(self.process.pid or 0, way)

    def clear(self) -> None:
        """End what is still there."""
        for number in [int(line.split()[0]) for line in self._living()]:
            os.kill(number, signal.SIGKILL)
        self.process.join(PATIENCE)
        self.words.close()

    def _living(self) -> Iterator[str]:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                ours = int(session) == self.process.pid or self.token.encode() in (folder / "environ").read_bytes()
                if ours and state != "Z":
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    yield f"{folder.name} {words[:100]}"
            except (OSError, ValueError):  # it has ended meanwhile
                continue


@dataclass
class Kill:
    """One kill and all that came of it."""

    job: str
    signal: str
    number: int
    state: str
    in_time: bool
    seconds_to_end: float
    faults: list[tuple[str, str]]


def whole(job: Job, place: Path) -> dict[str, float]:
    """Run to the end, and tell when each of its words came; a run that fails is a fault of what was there before."""
    run, times = Run(job, place), {}
    try:
        while run.words.poll(LONGEST):
            try:
                times[run.words.recv()] = time.monotonic()
            except EOFError:
                break
        if not run.ends(PATIENCE) or run.process.exitcode:
            raise RuntimeError(f"the run failed with {run.process.exitcode}; see {place.with_suffix('.log')}")
    finally:
        run.clear()
    return times


def lengths(job: Job, root: Path, runs: int = 3) -> dict[tuple[str, str], float]:
    """The usual seconds of each of the job's windows."""
    times = []
    for number in range(runs):
        place = root / f"measured-{number}"
        place.mkdir()
        job.prepare(place)
        times.append(whole(job, place))
        wrong = not isinstance(job, TrainMany) and job.ended(place).faults
        if wrong:
            raise RuntimeError(f"{job.name} without a kill: {wrong}")
        shutil.rmtree(place)
    return {(begin, end): statistics.median(each[end] - each[begin] for each in times) for begin, end in job.windows}


def kill_once(job: Job, way: signal.Signals, number: int, place: Path, usual: dict[tuple[str, str], float]) -> Kill:
    """Prepare, run, kill, look, run again, look."""
    place.mkdir()
    job.prepare(place)
    window = job.windows[number % len(job.windows)]
    moment = random.Random(f"{job.name} {way} {number}").uniform(0, 1.05 * usual[window])
    run, faults = Run(job, place), []
    try:
        if not run.wait_for(window[0]):
            raise RuntimeError(f"the run failed; see {place.with_suffix('.log')}")
        time.sleep(moment)
        in_time = run.process.exitcode is None
        killed = time.monotonic()
        if in_time:
            run.kill(way)
        if not run.ends(PATIENCE):
            faults.append(("processes left", "the run goes on"))
        left = run.alone(PATIENCE)
        seconds = time.monotonic() - killed
        if left:
            faults.append(("processes left", "; ".join(left)))
    finally:
        run.clear()
    after = job.killed(place)
    try:
        whole(job, place)
        faults += after.faults + job.ended(place).faults
    except RuntimeError as error:
        faults += [*after.faults, ("wrong", str(error))]
    if faults:
        print(f"{job.name} {way.name} {number} after {moment:.4f} s from {window[0]!r}: {faults}; see {place}")
    else:
        shutil.rmtree(place)
        place.with_suffix(".log").unlink()
    return Kill(job.name, way.name, number, after.state, in_time, seconds, faults)


def shown(kills: Sequence[Kill]) -> Table:
    """A line for each job and signal."""
    lines = Table("job", "signal", "kills", "before its end", "found after the kill", *FAULTS, "until all ended")
    for job, way in product(MAKERS, (way.name for way in SIGNALS)):
        these = [kill for kill in kills if (kill.job, kill.signal) == (job, way)]
        if not these:
            continue
        states = Counter(kill.state for kill in these)
        faults = [sum(kind in dict(kill.faults) for kill in these) for kind in FAULTS]
        told = ", ".join(f"{word} {count}" for word, count in sorted(states.items()))
        counts = (len(these), sum(kill.in_time for kill in these))
        longest = max(kill.seconds_to_end for kill in these)
        lines.add_row(job, way, *map(str, counts), told, *map(str, faults), f"{longest:.1f} s")
    return lines


def remembered(record: Path | None) -> list[Kill]:
    """The kills of an earlier call that wrote them down."""
    if record is None or not record.exists():
        return []
    told = [json.loads(line) for line in record.read_text().splitlines()]
    return [Kill(**{**kill, "faults": [tuple(fault) for fault in kill["faults"]]}) for kill in told]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"of {', '.join(MAKERS)}; all if none is named")
    parser.add_argument("--times", type=int, default=40, help="kills of each job by each signal")
    parser.add_argument("--record", type=Path, help="a file to go on from: a line of JSON for each kill")
    arguments = parser.parse_args()
    unknown = set(arguments.jobs) - MAKERS.keys()
    if unknown:
        parser.error(f"no such job: {', '.join(sorted(unknown))}")
    for module in WARM:
        importlib.import_module(module)
    root = Path(tempfile.mkdtemp(prefix="upweight-kills-"))
    kills = remembered(arguments.record)
    done = {(kill.job, kill.signal, kill.number) for kill in kills}
    for name in arguments.jobs or MAKERS:
        to_do = [(way, number) for number in range(arguments.times) for way in SIGNALS]
        to_do = [(way, number) for way, number in to_do if (name, way.name, number) not in done]
        if not to_do:
            continue
        room = root / name
        room.mkdir()
        job = MAKERS[name](room)
        usual = lengths(job, room)
        print(name, {f"{begin} to {end}": f"{seconds:.3f} s" for (begin, end), seconds in usual.items()}, flush=True)
        for way, number in to_do:
            kills.append(kill_once(job, way, number, room / f"{way.name}-{number}", usual))
            if arguments.record is not None:
                with arguments.record.open("a") as record:
                    record.write(json.dumps(asdict(kills[-1])) + "\n")
        if not any(kill.faults for kill in kills if kill.job == name):
            shutil.rmtree(room)
    Console(width=160).print(shown(kills))
    if any(kill.faults for kill in kills):
        sys.exit(f"What was wrong is in {root}")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
