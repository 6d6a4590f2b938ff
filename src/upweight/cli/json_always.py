"""One JSON object on standard output on every exit of a command that was given ``--json``."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from upweight.cli.standard_output import Elsewhere, UnwritableError, held, told_if_unwritable

INTERRUPTED = 130
TERMINATED = 128 + signal.SIGTERM
EARLY = "the command was interrupted before its end"
ENDED = "the command was ended before its end, by sys.exit("
WORDS = ("--help", "-h", "--version")
"""What is answered by words instead of work."""

_answers: list[list[Any]] = []
"""Of the commands that run: what is to be printed at the end."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception that no study takes for its own: what was begun is cleared."""


def failure(kind: str, message: str, **more: Any) -> dict[str, Any]:
    """The object that a command prints when it fails."""
    return {"error": {"kind": kind, "message": message, **more}}


def answer(found: Any) -> None:
    """Print the one object of a command, at its end."""
    if _answers:
        _answers[-1].append(found)
    else:
        print(_text(found))


class JsonAlways(TyperGroup):
    """The command line, whose ``--json`` also holds for wrong usage and for what nobody foresaw."""

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **more: Any) -> Any:  # type: ignore[override]
        """As click's; with ``--json`` errors are an object, and a traceback goes to the error stream."""
        given = list(sys.argv[1:] if args is None else args)
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **more)
        with ending_in_order(), told_if_unwritable():
            if "--json" not in given:
                return super().main(args, standalone_mode=True, **more)
            sys.exit(self._in_json(given, more))

    def _in_json(self, given: list[str], more: dict[str, Any]) -> int:
        words = io.StringIO()
        asked = [word for word in WORDS if word in given]
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        _answers.append([])
        try:
            with held(words if asked else Elsewhere()) as say:
                code, found = self._outcome([word for word in given if not asked or word != "--json"], more)
                if found is None:
                    text = words.getvalue().strip()
                    found = {"version": text.split()[-1]} if asked == ["--version"] else {"help": text}
                say(_text(found, encoding) + "\n")
        except UnwritableError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except BrokenPipeError:
            return 1
        finally:
            _answers.pop()
        return code

    def _outcome(self, given: list[str], more: dict[str, Any]) -> tuple[int, Any]:
        """Exit code, and what there is to say; None of a command that printed words only."""
        try:
            code = super().main(given, standalone_mode=False, **more)
        except Terminated:
            code, found = TERMINATED, failure("Terminated", EARLY)
        except (typer.Abort, KeyboardInterrupt):
            code, found = INTERRUPTED, failure("Interrupted", EARLY)
        except SystemExit as error:
            code, found = 1, failure("SystemExit", f"{ENDED}{error.code!r})")
        except BaseException as error:
            # Wrong usage is told by what it can do, not by its class: typer brings a click of its own in some versions.
            words = getattr(error, "format_message", None)
            code = getattr(error, "exit_code", 1)
            found = failure("UsageError" if words else type(error).__name__, words() if words else str(error))
            if words is None:
                traceback.print_exc()
        else:
            code = code if isinstance(code, int) else 0
            found = failure("Interrupted", EARLY)
            if _answers[-1]:
                return code, _answers[-1][-1]
            if code != INTERRUPTED:
                return code, None
        return code, found


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM as an exception, so that other programs that were begun end too, and what is half done is cleared."""

    def end(*_: object) -> None:
        raise Terminated(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _text(found: Any, encoding: str = "utf-8") -> str:
    """As JSON; in characters that every encoding has where a name on this disk is no text."""
    text = json.dumps(found, allow_nan=False, ensure_ascii=False, indent=2)
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return json.dumps(found, allow_nan=False, indent=2)
    return text
