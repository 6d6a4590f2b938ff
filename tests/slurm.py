"""Slurm's commands in a few lines, whose jobs are of this machine; ``python slurm.py FOLDER COMMAND ARGUMENTS``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")


def install(folder: Path) -> Path:
    """The commands in a folder, for ``PATH``."""
    (folder / "jobs").mkdir(parents=True)
    for name in COMMANDS:
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{folder}/jobs" {name} "$@"\n')
        command.chmod(0o755)
    return folder


def sbatch(jobs: Path, script: str) -> None:
    number = 1 + len(list(jobs.glob("*.number")))
    (jobs / f"{number}.number").touch()
    array = re.search(r"#SBATCH --array='?0-(\d+)", Path(script).read_text())
    for name in [str(number)] if array is None else [f"{number}_{k}" for k in range(int(array[1]) + 1)]:
        (jobs / f"{name}.script").write_text(Path(script).read_text())
        begin(jobs, name)
    print(f"Submitted batch job {number}")


def begin(jobs: Path, name: str) -> None:
    number, _, index = name.partition("_")
    own = {"SLURM_JOB_ID": number, **({"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index} if index else {})}
    with open(os.devnull, "r+") as nowhere:
        job = subprocess.Popen(
            ["bash", str(jobs / f"{name}.script")],
            env={**os.environ, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", **own},
            start_new_session=True,
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
        )
    (jobs / f"{name}.process").write_text(str(job.pid))


def srun(jobs: Path, *arguments: str) -> None:
    name = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = os.environ["SLURM_JOB_ID"] if name is None else f"{name}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    _, _, out, _, error, *command = arguments  # --unbuffered --output OUT --error ERROR
    for stream, file in ((1, out), (2, error)):
        number, _, index = name.partition("_")
        file = file.replace("%A", number).replace("%a", index).replace("%j", name).replace("%t", "0")
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.execvp(command[0], command)


def sacct(jobs: Path, *arguments: str) -> None:
    print("JobID|State|NodeList")
    for file in jobs.glob("*.process"):
        print(f"{file.stem}|{'RUNNING' if runs(int(file.read_text())) else 'COMPLETED'}|here")


def scancel(jobs: Path, name: str) -> None:
    with suppress(ProcessLookupError):
        os.killpg(int((jobs / f"{name}.process").read_text()), signal.SIGKILL)


def scontrol(jobs: Path, word: str, name: str) -> None:
    assert word == "requeue"
    before = int((jobs / f"{name}.process").read_text())
    if os.fork():
        return  # the job ends itself when this has been said
    os.setsid()
    while runs(before):
        time.sleep(0.05)
    begin(jobs, name)


def runs(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


if __name__ == "__main__":
    globals()[sys.argv[2]](Path(sys.argv[1]), *sys.argv[3:])
