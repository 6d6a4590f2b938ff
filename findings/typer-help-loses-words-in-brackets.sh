#!/usr/bin/env bash
# typer takes the help of commands and options for Rich's markup by default, so that words in square brackets that begin
# with a letter are a style: `[default: NAME.log]`, as click itself writes defaults, is gone from `--help` without a
# word, while `[1, 2]` stays. show_default="NAME.log" writes it, in brackets and parentheses.
#
# Versions: typer 0.29.2, rich 15.0.0, Python 3.11.
# Seen:     'Where to .' of the first, 'Of [1, 2].' of the second, 'Where to. [default: (NAME.out)]' of the third
set -euo pipefail
TYPER=0.29.2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "typer==$TYPER" "rich==15.0.0"
cat > "$work/app.py" <<'PY'
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def hello(
    log: Annotated[str | None, typer.Option(help="Where to [default: NAME.log].")] = None,
    sizes: Annotated[str | None, typer.Option(help="Of [1, 2].")] = None,
    out: Annotated[str | None, typer.Option(help="Where to.", show_default="NAME.out")] = None,
) -> None:
    print(log, sizes, out)


app()
PY
seen=$(COLUMNS=100 "$work/venv/bin/python" "$work/app.py" --help | sed -n 's/^│ --\(log\|sizes\|out\) *<str> *\(.*[^ ]\) *│$/\1: \2/p')
expected="log: Where to .
sizes: Of [1, 2].
out: Where to. [default: (NAME.out)]"
echo "typer $TYPER:"
echo "$seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
