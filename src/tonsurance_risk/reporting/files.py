"""Reports as files, complete or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from tonsurance_risk.errors import SettingsError, StorageError
from tonsurance_risk.report import RiskReport


def save_report(report: RiskReport | Mapping[str, Any], directory: str | os.PathLike[str]) -> Path:
    """Write a report as ``risk_report_YYYY-MM-DD.json`` and return the path.

    Parameters
    ----------
    report : RiskReport or mapping
        A report, or its document as `RiskReport.to_dict` gives it and a store keeps it.
    directory : path
        Made when it does not exist.

    Raises
    ------
    SettingsError
        If the folder cannot be written to.
    StorageError
        If writing failed on the way; an older file of that name is intact then.

    Notes
    -----
    Written to a temporary file in the same folder, flushed to the disk, then renamed over the old one.
    """
    document = report.to_dict() if isinstance(report, RiskReport) else dict(report)
    content = json_text(document)
    folder = writable_folder(directory)
    path = report_path(folder, document["report_date"], "json")
    try:
        replace_file(path, content)
    except OSError as error:
        raise StorageError(f"the report {path} could not be written: {error.strerror}") from error
    return path


def report_path(directory: str | os.PathLike[str], report_date: str, kind: str) -> Path:
    """Return where the report of a date is written to; a `ValueError` for what is no date."""
    return Path(directory) / f"risk_report_{date.fromisoformat(report_date).isoformat()}.{kind}"


def writable_folder(directory: str | os.PathLike[str]) -> Path:
    """Return `directory` as a path, made where it did not exist; `SettingsError` when it cannot be written to."""
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"the output folder {folder} cannot be written to ({error.strerror}); a writable folder is needed",
            observed=str(folder),
        ) from error
    return folder


def replace_file(path: Path, content: str) -> None:
    """Write a text file complete or not at all; an `OSError` leaves an older one as it was."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only the owner can read; a report is for others too.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def table_path(path: str | os.PathLike[str]) -> Path:
    """Return a path that a table can be written to; its folder is made where it did not exist.

    Raises
    ------
    SettingsError
        If it does not end with .csv or .json, is a folder, or cannot be written to.
    """
    file = Path(path)
    if file.suffix.casefold() not in (".csv", ".json"):
        raise SettingsError(f"the file must end with .csv or .json, found {str(file)!r}", observed=str(file))
    if file.is_dir():
        raise SettingsError(f"{str(file)!r} is a folder, needed is the path of a file", observed=str(file))
    return writable_folder(file.parent) / file.name


def write_table(file: Path, content: str) -> Path:
    """Write a file, complete or not at all; a `StorageError` if that failed, and an older file is intact then."""
    try:
        replace_file(file, content)
    except OSError as error:
        raise StorageError(f"{file} could not be written: {error.strerror}") from error
    return file


def json_text(document: Mapping[str, Any]) -> str:
    """Return a document as JSON text, indented, without NaN."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
