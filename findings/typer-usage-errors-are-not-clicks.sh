#!/usr/bin/env bash
# typer brings a copy of click of its own: usage errors of a typer command, run with standalone_mode=False as click's
# documentation has it, are not caught by `except click.ClickException` of an installed click, though class and method
# have the same names. What tells them in every version is what they can do (`format_message`, `exit_code`).
#
# Versions: typer 0.29.2 beside click 8.3.0, Python 3.11.
# Seen:     NoSuchOption from typer._click.exceptions; isinstance of click.ClickException: False; format_message: True
set -euo pipefail
TYPER=0.29.2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "typer==$TYPER" "click==8.3.0"
seen=$("$work/venv/bin/python" - <<'PY'
import click
import typer

app = typer.Typer()


@app.command()
def hello(name: str) -> None:
    print(name)


try:
    typer.main.get_command(app).main(["--nope"], standalone_mode=False)
except Exception as error:
    print(
        f"{type(error).__name__} from {type(error).__module__}; isinstance of click.ClickException: "
        f"{isinstance(error, click.ClickException)}; format_message: {hasattr(error, 'format_message')}"
    )
PY
)
expected="NoSuchOption from typer._click.exceptions; isinstance of click.ClickException: False; format_message: True"
echo "typer $TYPER: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
