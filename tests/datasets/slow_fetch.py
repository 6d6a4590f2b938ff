"""A process that fetches a tiny data set slowly. Arguments: archive, log of downloads, seconds per
download."""

import hashlib
import sys
import time
from pathlib import Path

from upweight.datasets import archives, clients
from upweight.datasets.fetch import ensure
from upweight.datasets.registry import Archive, DatasetInfo

archive, log, seconds = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
content = archive.read_bytes()
pinned = Archive("npm", "tiny-data", "1.0.0", hashlib.sha256(content).hexdigest(), len(content))


def run(command, folder):
    file = folder / "tiny-data-1.0.0.tgz"
    file.write_bytes(content[: len(content) // 2])
    with log.open("a") as stream:
        stream.write("download\n")
    time.sleep(seconds)
    file.write_bytes(content)
    return clients.Finished(0)


def convert(files, entry):
    for name, text in archives.members(files[0], lambda name: name.endswith(".txt")):
        (entry / Path(name).name).write_bytes(text)


entry = ensure(DatasetInfo("tiny", (pinned,), "none", "for tests"), convert, run=run)
print((entry / "hello.txt").read_text())
