#!/usr/bin/env bash
# A pool of loky, and that of the standard library as well, goes on without its parent: two workers, six jobs of three
# seconds, and the parent is killed (SIGKILL, as an out-of-memory killer does) once two of them run. Those end, and the
# workers then begin further ones, which had been sent ahead to them. So trainings in such a pool go on after their run
# was killed, beside those of the run that is started in its place.
#
# Versions: loky 3.5.6, Python 3.11 (Linux).
# Seen:     begun after the kill: by loky 3, by the standard library's pool 1 to 3
set -euo pipefail
LOKY=3.5.6
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "loky==$LOKY"
cat > "$work/pool.py" <<'PY'
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

FOLDER = Path(sys.argv[2])


def job(number, folder):
    Path(folder, f"begun-{number}-{os.getpid()}").touch()
    time.sleep(3)


if __name__ == "__main__":
    if sys.argv[1] == "loky":
        from loky import get_reusable_executor

        pool = get_reusable_executor(max_workers=2)
    else:
        pool = ProcessPoolExecutor(max_workers=2)
    jobs = [pool.submit(job, number, str(FOLDER)) for number in range(6)]
    [each.result() for each in jobs]
PY
after() {
    mkdir "$work/$1"
    "$work/venv/bin/python" "$work/pool.py" "$1" "$work/$1" & parent=$!
    while [ "$(find "$work/$1" -name 'begun-*' | wc -l)" -lt 2 ]; do sleep 0.1; done
    kill -9 "$parent"
    wait "$parent" 2>/dev/null || true
    before=$(find "$work/$1" -name 'begun-*' | wc -l)
    sleep 12
    echo $(($(find "$work/$1" -name 'begun-*' | wc -l) - before))
    for file in "$work/$1"/begun-*; do kill -9 "${file##*-}" 2>/dev/null || true; done
}
loky=$(after loky 2>/dev/null)
standard=$(after standard 2>/dev/null)
echo "jobs begun after the parent was killed: by loky $LOKY $loky, by the standard library's pool $standard"
[ "$loky" -ge 2 ] && [ "$standard" -ge 1 ] || { echo "changed; expected: 2 or more, and 1 or more"; exit 1; }
