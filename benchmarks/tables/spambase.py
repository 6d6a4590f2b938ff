"""Write spambase as a CSV: run in the environment of cleanlab, where rdata is. ``python spambase.py FILE.csv``."""

import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import rdata

PACKAGE = "r-cran-kernlab"
FILE = "usr/lib/R/site-library/kernlab/data/spam.rda"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        archive = next(Path(folder).glob("*.deb"))
        subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = rdata.read_rda(Path(folder) / FILE)["spam"]
        frame.to_csv(sys.argv[1], index=False)


if __name__ == "__main__":
    main()
