"""Where tasks run: in this process, in others of this machine, on a Ray cluster, or as jobs of Slurm.

An executor takes a list of tasks and a function that makes a worker, in the form of ``concurrent.futures``; it yields
tasks with their results as they end (`Executor`). It knows nothing of what a task is: a worker commits its own work,
the caller counts. A worker that dies is replaced and its task done again; a task that raises is named
(`TaskFailedError`).
"""

from upweight.executors.failures import TaskFailedError, WorkerDiedError
from upweight.executors.in_process import InProcess
from upweight.executors.interface import Executor
from upweight.executors.processes import Processes
from upweight.executors.ray import Ray
from upweight.executors.slurm import Slurm

__all__ = ["Executor", "InProcess", "Processes", "Ray", "Slurm", "TaskFailedError", "WorkerDiedError"]
