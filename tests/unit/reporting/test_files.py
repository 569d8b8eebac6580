"""Reports as files: complete or not at all."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys

import pytest

import tonsurance_risk as tr
from tonsurance_risk.errors import SettingsError, StorageError
from tonsurance_risk.reporting.files import writable_folder
from tonsurance_risk.reporting.tables import save_tables

DOCUMENT = {"report_date": "2024-12-31", "text": "x"}


def test_writes_and_replaces(tmp_path):
    """Under the name of its date, in a folder that is made when missing."""
    path = tr.save_report(DOCUMENT, tmp_path / "new" / "folder")
    again = tr.save_report(DOCUMENT | {"text": "y"}, tmp_path / "new" / "folder")

    assert "risk_report_2024-12-31.json" == path.name
    assert path == again
    assert "y" == json.loads(path.read_text())["text"]
    assert [path] == list(path.parent.iterdir())


HOSTILE = [
    "../2024-12-31", "2024-12-31/../../x", "yesterday", "/etc/passwd", "..", "", "2024-12-31\0", "2024-12-31\n",
    "2024-13-01", "20241231", "2024-W01-1", "\u0662\u0660\u0662\u0664-12-31", "2024-12-31\\..\\x", None, 20241231,
    ["2024-12-31"],
]  # fmt: skip


@pytest.mark.fault("F137")
@pytest.mark.parametrize("date", HOSTILE)
@pytest.mark.parametrize("save", [tr.save_report, save_tables])
def test_a_name_cannot_leave_its_folder(tmp_path, date, save):
    """A date is a date, in one spelling; else nothing is written, not even the folder."""
    with pytest.raises(SettingsError, match=r"report_date of a report must be a date such as 2024-12-31, found"):
        save(DOCUMENT | {"report_date": date}, tmp_path / "reports")
    assert [] == list(tmp_path.iterdir())


def test_a_document_without_a_date_has_no_name(tmp_path):
    """The key may be missing, too."""
    with pytest.raises(SettingsError, match="found None"):
        tr.save_report({"text": "x"}, tmp_path)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    """Named, with the reason."""
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match=r"output folder .*file/reports"):
        tr.save_report(DOCUMENT, tmp_path / "file" / "reports")


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, StorageError), (errno.EIO, StorageError), (errno.EACCES, SettingsError)]
)
def test_a_folder_without_room_is_no_wrong_setting(tmp_path, monkeypatch, number, kind):
    """It is right again when there is room; a daemon goes on then."""

    def refuse(**_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(kind, match="cannot be written to"):
        writable_folder(tmp_path)


@pytest.mark.fault("F071")
def test_a_full_disk_leaves_the_old_report(tmp_path):
    """In a process that may write 4 KB a file: the old one stays, the half-written one goes, the error is named."""
    path = tr.save_report(DOCUMENT, tmp_path)
    code = (
        "import resource, signal, sys, tonsurance_risk as tr\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    tr.save_report({'report_date': '2024-12-31', 'text': 'y' * 100_000}, sys.argv[1])\n"
        "except tr.errors.StorageError as error:\n"
        "    print(error)\n"
    )
    assert resource.RLIMIT_FSIZE is not None

    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)

    assert "could not be written" in done.stdout
    assert DOCUMENT == json.loads(path.read_text())
    assert [path] == list(tmp_path.iterdir())
