"""What can go wrong when real data is asked for."""

from __future__ import annotations

from upweight.errors import UpweightWarning


class UnknownDataset(ValueError):
    """No data set of this name is in the registry."""


class DataUnavailable(RuntimeError):
    """A data set could not be had; nothing was written to the cache.

    Parameters
    ----------
    dataset : name in the registry
    problem : what went wrong, in one or two sentences
    mend : what the user can do about it
    tried : the command that was run, if one was
    """

    def __init__(self, dataset: str, problem: str, mend: str, tried: str | None = None) -> None:
        super().__init__(dataset, problem, mend, tried)
        self.dataset = dataset
        self.problem = problem
        self.mend = mend
        self.tried = tried

    def __str__(self) -> str:
        tried = f"\n  tried: {self.tried}" if self.tried else ""
        return f"data set {self.dataset!r} is not available: {self.problem}{tried}\n  to mend it: {self.mend}"


class ChecksumMismatch(DataUnavailable):
    """The package arrived, but its content is not the pinned one.

    Parameters
    ----------
    dataset, problem, mend, tried
        As of `DataUnavailable`.
    """


class DamagedCacheWarning(UpweightWarning):
    """A cached data set no longer had the content that was written, and has been fetched again."""
