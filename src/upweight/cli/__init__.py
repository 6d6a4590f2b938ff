"""The `upweight` command: label errors, explanations and their proof, from a shell."""

from __future__ import annotations

import io
import json
import sys


def main() -> None:
    """Run the command line."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names on disk needn't be text, nor a terminal know every letter
                stream.reconfigure(errors="backslashreplace")
        from upweight.cli.app import app  # here, so that `import upweight.cli` costs nothing

        app(prog_name="upweight")
    except KeyboardInterrupt:
        _interrupted()


def _interrupted() -> None:
    """Say so where the command hadn't begun, or had ended."""
    told = "the command was interrupted before its end"
    if "--json" in sys.argv:
        print(json.dumps({"error": {"kind": "Interrupted", "message": told}}))
    else:
        print(told, file=sys.stderr)
    sys.exit(130)
