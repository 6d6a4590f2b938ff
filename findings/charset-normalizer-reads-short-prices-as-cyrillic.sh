#!/usr/bin/env bash
# charset-normalizer takes a short table with euros, written in windows-1252 as spreadsheets of Western Europe do, for
# Cyrillic, without a word of doubt: few letters beyond ASCII, none of them with a neighbour, tell it nothing. With more
# such rows it is right. Who reads tables does well to prefer Western Europe where the letters beyond ASCII are few.
#
# Versions: charset-normalizer 3.5.3, Python 3.11.
# Seen:     cp1125 for three lines; for seven lines what they say
set -euo pipefail
VERSION=3.5.3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "charset-normalizer==$VERSION"
seen=$("$work/venv/bin/python" - <<'PY'
from charset_normalizer import from_bytes

short = "a,b\n1 €,x\n2 €,ü\n"
longer = "price,town\n1 €,Köln\n2 €,Bonn\n12 €,Jena\n3 €,Düren\n4 €,Görlitz\n5 €,München\n"
said = [from_bytes(text.encode("cp1252")).best() for text in (short, longer)]
print(f"{said[0].encoding} for three lines; for seven lines {'what they say' if str(said[1]) == longer else said[1]}")
PY
)
expected="cp1125 for three lines; for seven lines what they say"
echo "charset-normalizer $VERSION: $seen"
[ "$seen" = "$expected" ] || { echo "changed; expected: $expected"; exit 1; }
