"""The `upweight` command: label errors, explanations and their proof, from a shell."""

from __future__ import annotations

import io
import json
import sys


def main() -> None:
    """Run the command line."""
    from upweight.errors import MissingExtraError
    from upweight.optional import imported

    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names on disk needn't be text, nor a terminal know every letter
                stream.reconfigure(errors="backslashreplace")
        with imported("cli", "the upweight command"):
            from upweight.cli.app import app  # here, so that `import upweight.cli` costs nothing

        app(prog_name="upweight")
    except MissingExtraError as error:
        _say("MissingExtraError", str(error))
        sys.exit(1)
    except KeyboardInterrupt:  # where the command hadn't begun, or had ended
        _say("Interrupted", "the command was interrupted before its end")
        sys.exit(130)


def _say(kind: str, message: str) -> None:
    if "--json" in sys.argv:
        print(json.dumps({"error": {"kind": kind, "message": message}}))
    else:
        print(message, file=sys.stderr)
