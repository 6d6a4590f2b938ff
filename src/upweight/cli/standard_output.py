"""Standard output, which a study may print to, redirect or close, and a full disk may refuse."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

Say = Callable[[str], None]


class UnwritableError(OSError):
    """Standard output doesn't take what is to be said."""


class Elsewhere(io.TextIOBase):
    """What is printed goes to the error stream instead; to close it closes nothing."""

    def write(self, text: str) -> int:
        """As of every stream."""
        sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """As of every stream."""
        sys.stderr.flush()

    def writable(self) -> bool:
        """As of every stream."""
        return True

    def fileno(self) -> int:
        """The error stream's."""
        return sys.stderr.fileno()

    @property
    def buffer(self) -> Any:
        """For those who print bytes."""
        return sys.stderr.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The error stream's."""
        return sys.stderr.encoding

    def close(self) -> None:
        """Not the error stream."""


@contextmanager
def held(stand_in: io.TextIOBase) -> Iterator[Say]:
    """Keep standard output for one thing to say; what else is printed goes to the stand-in, or to the error stream.

    It is kept below Python too, where other programs and libraries print. Raises `UnwritableError` on saying.
    """
    stream = sys.stdout
    own, number = _copy(stream), _number(stream)
    if own is not None and number is not None and _number(sys.stderr) is not None:
        os.dup2(sys.stderr.fileno(), number)
    sys.stdout = stand_in

    def say(text: str) -> None:
        with printing():
            if own is not None:
                _write(own, text, stream)
            elif stream is None or stream.closed:
                raise OSError("it is closed")
            else:
                stream.write(text)
                stream.flush()

    try:
        yield say
    finally:
        sys.stdout = stream
        if own is not None and number is not None:
            os.dup2(own, number)
            os.close(own)


def _write(descriptor: int, text: str, stream: Any) -> None:
    """All of it, in the stream's encoding; what that doesn't know as JSON and Python write it."""
    content = memoryview(text.encode(getattr(stream, "encoding", None) or "utf-8", errors="backslashreplace"))
    while content:
        content = content[os.write(descriptor, content) :]


@contextmanager
def streams_kept() -> Iterator[None]:
    """Put back standard output and the error stream, also where what runs meanwhile closed them."""
    before = [(name, getattr(sys, name)) for name in ("stdout", "stderr")]
    copies = [_copy(stream) for _, stream in before]
    numbers = [_number(stream) for _, stream in before]
    try:
        yield
    finally:
        for (name, stream), copy, number in zip(before, copies, numbers, strict=True):
            if copy is not None and number is not None:
                with suppress(OSError, ValueError):
                    getattr(sys, name).flush()
                os.dup2(copy, number)
                os.close(copy)
                if stream.closed:
                    stream = open(number, "w", encoding=stream.encoding, errors=stream.errors, closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


@contextmanager
def printing() -> Iterator[None]:
    """What can't be printed as `UnwritableError`."""
    try:
        yield
    except BrokenPipeError:  # the reader (head, less) has seen enough
        raise
    except OSError as error:
        raise unwritable(error) from error


def unwritable(error: OSError) -> UnwritableError:
    """The error that says why."""
    return UnwritableError(f"standard output can't be written ({error.strerror or error})")


@contextmanager
def told_if_unwritable() -> Iterator[None]:
    """A full disk, say, as one message and exit code 1, rather than a traceback or an error after the end."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None and not sys.stdout.closed:
                with printing():
                    sys.stdout.flush()
    except BrokenPipeError:
        _nothing_more()
        sys.exit(1)
    except OSError as error:
        # Of a file every error says the name; without one it came of printing.
        if error.filename is not None or type(error) not in (OSError, UnwritableError):
            raise
        _nothing_more()
        told = error if isinstance(error, UnwritableError) else unwritable(error)
        print(f"error: {told}", file=sys.stderr)
        sys.exit(1)


def _nothing_more() -> None:
    """What is left of the output would be tried once more at the end."""
    number = _number(sys.stdout)
    if number is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _number(stream: Any) -> int | None:
    try:
        number: int = stream.fileno()
    except (AttributeError, OSError, ValueError):  # none, closed, or not of the system
        return None
    return number


def _copy(stream: Any) -> int | None:
    number = _number(stream)
    if number is None:
        return None
    with suppress(OSError, ValueError):
        stream.flush()
    with suppress(OSError):
        return os.dup(number)
    return None
