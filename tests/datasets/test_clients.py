"""What package clients say is turned into what went wrong and how to mend it."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from upweight.datasets import DataUnavailable
from upweight.datasets.clients import Finished, command, download, run_client
from upweight.datasets.registry import Archive

NPM = Archive("npm", "tiny-data", "1.0.0", "0" * 64, 1)
PIP = Archive("pip", "tiny-data", "1.0.0", "0" * 64, 1)
APT = Archive("apt", "tiny-data", "1.0.0-1", "0" * 64, 1)

NPM_OFFLINE = """\
npm error code ECONNREFUSED
npm error syscall connect
npm error errno ECONNREFUSED
npm error FetchError: request to some/tiny-data failed, reason: connect ECONNREFUSED
npm error     at ClientRequest.<anonymous> (index.js:130:14)
npm error If you are behind a proxy, please make sure that the 'proxy' config is set properly.
npm error A complete log of this run can be found in: debug-0.log
"""
NPM_NO_VERSION = """\
npm error code ETARGET
npm error notarget No matching version found for tiny-data@1.0.0.
npm error notarget In most cases you or one of your dependencies are requesting a package version
npm error A complete log of this run can be found in: debug-0.log
"""
PIP_OFFLINE = """\
WARNING: Retrying after connection broken by 'NewConnectionError'
ERROR: Could not find a version that satisfies the requirement tiny-data==1.0.0 (from versions: none)
ERROR: No matching distribution found for tiny-data==1.0.0
"""
PIP_NO_VERSION = """\
ERROR: Could not find a version that satisfies the requirement tiny-data==1.0.0 (from versions: 0.9)
ERROR: No matching distribution found for tiny-data==1.0.0
"""
APT_OFFLINE = """\
W: Download is performed unsandboxed as root
E: Failed to fetch tiny-data.deb  Could not connect to 127.0.0.1:9
"""


@pytest.mark.parametrize(
    ("archive", "errors", "problem", "mend"),
    [
        (NPM, NPM_OFFLINE, "reach its registry; it said: FetchError: request to some/tiny-data", "network"),
        (NPM, NPM_NO_VERSION, "said: No matching version found for tiny-data@1.0.0.", "by hand"),
        (NPM, "", "it said: nothing", "by hand"),
        (PIP, PIP_OFFLINE, "could not reach its registry", "network"),
        (PIP, PIP_NO_VERSION, "No matching distribution found for tiny-data==1.0.0", "by hand"),
        (PIP, f"{sys.executable}: No module named pip", "this Python has no pip", "ensurepip"),
        (APT, APT_OFFLINE, "could not reach its registry; it said: E: Failed to fetch", "network"),
        (APT, "E: Unable to locate package tiny-data", "does not know the package", "apt-get update"),
    ],
)
def test_a_failed_client_is_explained(tmp_path, archive, errors, problem, mend):
    with pytest.raises(DataUnavailable) as caught:
        download("tiny", archive, tmp_path, lambda command, folder: Finished(1, "", errors))
    assert "tiny" in str(caught.value)
    assert problem in caught.value.problem
    assert mend in caught.value.mend
    assert archive.pinned in caught.value.tried


def test_a_drifted_apt_version_names_the_pinned_and_the_offered(tmp_path):
    def run(command, folder):
        if command[0] == "apt-cache":
            return Finished(0, " tiny-data | 2.0-1 | mirror Packages\n tiny-data | 1.9-1 | mirror Packages\n")
        return Finished(100, "", "E: Version '1.0.0-1' for 'tiny-data' was not found")

    with pytest.raises(DataUnavailable, match=r"tiny-data=1\.0\.0-1, and apt here offers version 2\.0-1, 1\.9-1"):
        download("tiny", APT, tmp_path, run)


@pytest.mark.parametrize(("archive", "mend"), [(NPM, "Node.js"), (PIP, "pip"), (APT, "Debian")])
def test_a_missing_client_says_how_to_get_it(tmp_path, archive, mend):
    def run(command, folder):
        raise FileNotFoundError(command[0])

    with pytest.raises(DataUnavailable, match="not on PATH") as caught:
        download("tiny", archive, tmp_path, run)
    assert mend in caught.value.mend


@pytest.mark.parametrize("left", [[], ["tiny-data-2.0.0.tgz"], ["a-1.0.0.tgz", "b-1.0.0.tgz"]])
def test_another_file_than_asked_for_is_refused(tmp_path, left):
    def run(command, folder):
        for name in left:
            (folder / name).touch()
        return Finished(0)

    with pytest.raises(DataUnavailable, match="was asked for tiny-data@1"):
        download("tiny", NPM, tmp_path, run)


def test_pip_runs_in_this_python_and_never_installs():
    asked = command(PIP)
    assert asked[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary"} <= set(asked)


def test_the_runner_reports_status_and_streams_and_keeps_temporary_files_in_the_folder(tmp_path):
    code = "import os, sys; print(os.environ['TMPDIR']); print('no', file=sys.stderr); sys.exit(3)"
    finished = run_client([sys.executable, "-c", code], tmp_path)
    assert finished == Finished(3, f"{tmp_path}\n", "no\n")
    with pytest.raises(FileNotFoundError):
        run_client(["there-is-no-such-program"], tmp_path)


def test_the_error_survives_going_to_another_process():
    error = DataUnavailable("tiny", "it broke", "mend it", "a command")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy)) == (DataUnavailable, str(error))
    assert Path(copy.tried) == Path("a command")
