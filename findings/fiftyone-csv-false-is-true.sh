#!/usr/bin/env bash
# FiftyOne's CSV importer takes every column for text unless `fields=` names a parser, and the parser that says what the
# column holds, bool, makes True of the text "False". A row whose file is found from the current folder, by a path that
# isn't whole, is refused for having no path ("Found row with no 'filepath' value"), though the row has one and the file
# is there.
#
# Versions: fiftyone 1.22.1, Python 3.11.
# Seen:     alone: '0.5' 'False'; float and bool: 0.5 True; a comparison: 0.5 False; not a whole path: ValueError
set -euo pipefail
FIFTYONE=1.22.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "fiftyone==$FIFTYONE"
cd "$work"
export HOME="$work" FIFTYONE_DO_NOT_TRACK=1
seen=$(venv/bin/python - <<'PY' 2>/dev/null
from pathlib import Path

from fiftyone.utils.csv import CSVDatasetImporter
from PIL import Image

Image.new("RGB", (8, 8)).save("image.png")


def read(path, **options):
    Path("labels.csv").write_text(f"filepath,score,suspicious\n{path},0.5,False\n")
    try:
        with CSVDatasetImporter(labels_path="labels.csv", **options) as importer:
            (sample,) = importer
    except ValueError as error:
        return type(error).__name__
    return f"{sample['score']!r} {sample['suspicious']!r}"


whole = Path("image.png").resolve()
parsers = {"float and bool": bool, "a comparison": "True".__eq__}
found = {name: read(whole, fields={"score": float, "suspicious": parser}) for name, parser in parsers.items()}
told = "; ".join(f"{name}: {said}" for name, said in found.items())
print(f"alone: {read(whole)}; {told}; not a whole path: {read('image.png')}")
PY
)
expected="alone: '0.5' 'False'; float and bool: 0.5 True; a comparison: 0.5 False; not a whole path: ValueError"
echo "fiftyone $FIFTYONE: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
