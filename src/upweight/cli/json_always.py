"""One JSON object on standard output on every exit of a command that was given ``--json``."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

INTERRUPTED = 130


def error_object(kind: str, message: str, **more: Any) -> str:
    """The object that a command prints when it fails."""
    return json.dumps({"error": {"kind": kind, "message": message, **more}}, ensure_ascii=False)


class JsonAlways(TyperGroup):
    """The command line, whose ``--json`` also holds for wrong usage and for what nobody foresaw."""

    def main(self, args: Sequence[str] | None = None, *, standalone_mode: bool = True, **more: Any) -> Any:  # type: ignore[override]
        """As click's; with ``--json`` errors are an object, and a traceback goes to the error stream."""
        given = list(sys.argv[1:] if args is None else args)
        if "--json" not in given or not standalone_mode:
            return super().main(args, standalone_mode=standalone_mode, **more)
        try:
            code = super().main(given, standalone_mode=False, **more)
        except (typer.Abort, KeyboardInterrupt):
            print(error_object("Interrupted", "the command was interrupted before its end"))
            sys.exit(INTERRUPTED)
        except Exception as error:
            # Wrong usage is told by what it can do, not by its class: typer brings a click of its own in some versions.
            words = getattr(error, "format_message", None)
            print(error_object("UsageError" if words else type(error).__name__, words() if words else str(error)))
            if words is None:
                traceback.print_exc()
            sys.exit(getattr(error, "exit_code", 1))
        sys.exit(code if isinstance(code, int) else 0)
