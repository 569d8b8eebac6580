"""Reports as files, complete or not at all."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import reprlib
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

from tonsurance_risk.errors import SettingsError, StorageError
from tonsurance_risk.report import SCHEMA_VERSION, RiskReport
from tonsurance_risk.reporting.schema import schema_fault


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
        If the folder cannot be written to, or `report_date` of a document is no date.
    StorageError
        If writing failed on the way; an older file of that name is intact then.

    Notes
    -----
    Written to a temporary file in the same folder, flushed to the disk, then renamed over the old one.
    """
    document = report.to_dict() if isinstance(report, RiskReport) else dict(report)
    path = report_path(directory, document.get("report_date"), "json")
    content = json_text(document)
    writable_folder(directory)
    try:
        replace_file(path, content)
    except OSError as error:
        raise StorageError(f"the report {path} could not be written: {error.strerror}") from error
    return path


def report_path(directory: str | os.PathLike[str], report_date: object, kind: str) -> Path:
    """Return where a file of the report of a date is written to, ``risk_report_YYYY-MM-DD.KIND``.

    Raises
    ------
    SettingsError
        If the date is none; nothing else gets into the name of a file.
    """
    if isinstance(report_date, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", report_date, re.ASCII):
        with suppress(ValueError):
            return Path(directory) / f"risk_report_{date.fromisoformat(report_date).isoformat()}.{kind}"
    raise SettingsError(
        f"report_date of a report must be a date such as 2024-12-31, found {report_date!r}", observed=report_date
    )


def read_report(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the report document in a file.

    Raises
    ------
    SettingsError
        If the file cannot be read, is no report of this schema version, or breaks the schema: says where.
    """
    where = os.fspath(path)
    try:
        document = json.loads(
            Path(path).read_text(encoding="utf-8"),
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole,
        )
    except OSError as error:
        raise SettingsError(f"{where} cannot be read: {error.strerror}", observed=where) from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{where} is no report: {error}", observed=where) from error
    if not isinstance(document, dict) or "schema_version" not in document:
        raise SettingsError(f"{where} is no report: needed is an object with schema_version", observed=where)
    if document["schema_version"] != SCHEMA_VERSION:
        found = document["schema_version"]
        raise SettingsError(
            f"{where} has schema version {reprlib.repr(found)}, this software reads {SCHEMA_VERSION}"
        )
    if fault := schema_fault(document):
        raise SettingsError(f"{where} is no whole report: {fault}", observed=where)
    return document


def _no_number(text: str) -> float:
    raise ValueError(f"{text[:40]} is no finite number")


def _finite(text: str) -> float:
    return found if math.isfinite(found := float(text)) else _no_number(text)


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def writable_folder(directory: str | os.PathLike[str]) -> Path:
    """Return `directory` as a path, made where it did not exist.

    Raises
    ------
    SettingsError
        If it cannot be written to.
    StorageError
        If its disk is full or fails.
    """
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        # Another folder would be no better, and this one is fine when there is room again.
        kind = StorageError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else SettingsError
        raise kind(
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
