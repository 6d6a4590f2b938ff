#!/usr/bin/env bash
# Under `from __future__ import annotations` ruff's rule UP037 takes shape strings of jaxtyping that happen to parse as an
# expression for quoted annotations, and its fix, marked safe, removes the quotes: "..." becomes Ellipsis and
# "batch *rest" a product of two names. The module is imported as before; typing.get_type_hints, and whatever asks it,
# fails from then on. A space in front of the string keeps ruff away, and jaxtyping doesn't mind it.
#
# Versions: ruff 0.17.6, jaxtyping 0.3.11, numpy 2.4.0, Python 3.11.
# Seen:     before: shapes ['...'] and ['batch *rest']; fixed: AttributeError and NameError; with a space: unchanged
set -euo pipefail
RUFF=0.17.6
JAXTYPING=0.3.11
NUMPY=2.4.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "ruff==$RUFF" "jaxtyping==$JAXTYPING" "numpy==$NUMPY"
cat > "$work/bare.py" <<'PY'
from __future__ import annotations

import numpy as np
from jaxtyping import Float


def anything(x: Float[np.ndarray, "..."]) -> None: ...


def rows(x: Float[np.ndarray, "batch *rest"]) -> None: ...
PY
cd "$work"
sed 's/"\(\.\.\.\|batch\)/" \1/' bare.py > spaced.py
cp spaced.py spaced-before.py
cat > asked.py <<'PY'
import sys
import typing
from importlib import import_module


def asked(function):
    try:
        return repr([typing.get_type_hints(function)["x"].dim_str])
    except Exception as error:
        return type(error).__name__


module = import_module(sys.argv[1])
print(asked(module.anything), "and", asked(module.rows))
PY
before=$(venv/bin/python asked.py bare)
venv/bin/ruff check --isolated --quiet --select UP037 --fix bare.py spaced.py
fixed=$(venv/bin/python asked.py bare)
spaced=$(cmp -s spaced.py spaced-before.py && echo unchanged || echo changed)
seen="before: shapes $before; fixed: $fixed; with a space: $spaced"
expected="before: shapes ['...'] and ['batch *rest']; fixed: AttributeError and NameError; with a space: unchanged"
echo "ruff $RUFF, jaxtyping $JAXTYPING: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
