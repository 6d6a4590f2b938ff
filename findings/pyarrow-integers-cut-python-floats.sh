#!/usr/bin/env bash
# pyarrow makes an integer column of a list of Python's floats by cutting off what stands behind the point, without a word:
# `pyarrow.array`, and a table from a dict or from rows with a schema. The same numbers in a NumPy array, and a cast, are
# refused ("was truncated"). Who writes a corrected value back into a Parquet file's own schema loses it there.
#
# Versions: pyarrow 26.0.1, NumPy 2.4.6, Python 3.11.
# Seen:     list [11, 2], table [11, 2], rows [11, 2]; refused: NumPy, cast
set -euo pipefail
VERSION=26.0.1
NUMPY=2.4.6
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "pyarrow==$VERSION" "numpy==$NUMPY"
seen=$("$work/venv/bin/python" - <<'PY'
import numpy as np
import pyarrow as pa

values, whole = [11.5, 2.0], pa.schema([("y", pa.int64())])
kept = {
    "list": pa.array(values, type=pa.int64()),
    "table": pa.table({"y": values}, schema=whole)["y"],
    "rows": pa.Table.from_pylist([{"y": value} for value in values], schema=whole)["y"],
}
ways = {
    "NumPy": lambda: pa.array(np.array(values), type=pa.int64()),
    "cast": lambda: pa.array(values).cast(pa.int64()),
}
refused = []
for name, way in ways.items():
    try:
        way()
    except pa.ArrowInvalid:
        refused.append(name)
print(f"{', '.join(f'{name} {found.to_pylist()}' for name, found in kept.items())}; refused: {', '.join(refused)}")
PY
)
expected="list [11, 2], table [11, 2], rows [11, 2]; refused: NumPy, cast"
echo "pyarrow $VERSION: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
