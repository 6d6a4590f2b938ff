#!/usr/bin/env bash
# jaxtyping's import hook hands every method of a class to the type checker by itself, and beartype understands
# typing.Self only where it decorates the whole class: a module with `-> Self` in it, tensors or none, which is imported
# without the hook and checked by beartype's own decorator of the class, can't be imported under the hook (open since
# 2023 as issue 92 of jaxtyping).
#
# Versions: jaxtyping 0.3.11, beartype 0.23.1, Python 3.11.
# Seen:     alone: imported; decorated by beartype: imported; by the hook: BeartypeDecorHintPep673Exception
set -euo pipefail
JAXTYPING=0.3.11
BEARTYPE=0.23.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "jaxtyping==$JAXTYPING" "beartype==$BEARTYPE"
cat > "$work/chain.py" <<'PY'
from __future__ import annotations

from typing import Self


class Chain:
    def again(self) -> Self:
        return self
PY
cd "$work"
seen=$("$work/venv/bin/python" - <<'PY'
import importlib
import sys

from beartype import beartype
from jaxtyping import install_import_hook


def tried(act):
    try:
        act()
    except Exception as error:
        return type(error).__name__
    return "imported"


def alone():
    importlib.import_module("chain").Chain().again()


def hooked():
    sys.modules.pop("chain", None)
    with install_import_hook("chain", "beartype.beartype"):
        importlib.import_module("chain").Chain().again()


first = tried(alone)
decorated = tried(lambda: beartype(sys.modules["chain"].Chain)().again())
print(f"alone: {first}; decorated by beartype: {decorated}; by the hook: {tried(hooked)}")
PY
)
expected="alone: imported; decorated by beartype: imported; by the hook: BeartypeDecorHintPep673Exception"
echo "jaxtyping $JAXTYPING, beartype $BEARTYPE: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
