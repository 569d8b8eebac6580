"""Old prices as compressed files: one a source, step and month, named by its content. Pure, but for the files.

A row is a price with all that is known of it, or a revision (with the instant at which it was replaced), so that a
replay can ask what was known at any instant.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.errors import StorageError, StoreCorruptError
from tonsurance_risk.storage.price_rows import MARKS

COLUMNS = ("asset", "time", "price", "recorded_at", "replaced_at", *MARKS)
"""Times in microseconds since 1970-01-01 UTC; what is null is empty."""
ArchivedRow: TypeAlias = tuple[
    str, int, float, int, int | None, float | None, float | None, float | None, float | None
]


@attrs.frozen(kw_only=True)
class PriceArchive:
    """A file of old prices, as the store has it in its books.

    Parameters
    ----------
    source, step : str
    start, end : Timestamp
        The prices are those of ``[start, end)``.
    file : str
        Its name in the folder of archives.
    sha256 : str
        Of the file.
    n_rows : int
        Prices and revisions.
    archived_at : Timestamp
    """

    source: str
    step: str
    start: pd.Timestamp
    end: pd.Timestamp
    file: str
    sha256: str
    n_rows: int
    archived_at: pd.Timestamp


def encoded(rows: Iterable[ArchivedRow]) -> bytes:
    """Return rows as compressed CSV; the same rows give the same bytes, and numbers come back bit for bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return gzip.compress(text.getvalue().encode(), mtime=0)


def decoded_rows(content: bytes) -> list[ArchivedRow]:
    """Return the rows of compressed CSV; a `StoreCorruptError` if it is none."""
    try:
        lines = list(csv.reader(io.StringIO(gzip.decompress(content).decode(), newline="")))
        if tuple(lines[0]) != COLUMNS:
            raise ValueError(f"its columns are {lines[0]}")
        return [_row(line) for line in lines[1:]]
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise StoreCorruptError(f"an archive of prices cannot be read: {error}") from error


def _row(line: Sequence[str]) -> ArchivedRow:
    asset, time, price, recorded_at, replaced_at, *marks = line
    quality, outlier, volatility, volume = (float(mark) if mark else None for mark in marks)
    replaced = int(replaced_at) if replaced_at else None
    return asset, int(time), float(price), int(recorded_at), replaced, quality, outlier, volatility, volume


def written(
    folder: Path, source: str, step: str, month: pd.Timestamp, rows: Sequence[ArchivedRow]
) -> tuple[str, str]:
    """Write rows to a file and read them again; return its name and SHA-256.

    The name holds a part of the hash: another content is another file, and nothing is overwritten.
    """
    content = encoded(rows)
    sha256 = hashlib.sha256(content).hexdigest()
    place = "_".join(quote(part, safe="") for part in (source, step))
    name = f"prices_{place}_{month:%Y-%m}_{sha256[:12]}.csv.gz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{name}.{os.getpid()}.part"
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)
    except OSError as error:
        raise StorageError(f"cannot write the archive {folder / name}: {error.strerror}") from error
    if read(folder, name, sha256) != list(rows):
        raise StoreCorruptError(f"the archive {folder / name} does not hold what was written to it")
    return name, sha256


def read(folder: Path, name: str, sha256: str) -> list[ArchivedRow]:
    """Return the rows of a file whose hash must be the one in the books."""
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read the archive {folder / name}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreCorruptError(f"the archive {folder / name} is not the file that was written")
    return decoded_rows(content)


def known_prices(rows: Iterable[ArchivedRow], known_at: int | None) -> dict[str, tuple[list[int], list[float]]]:
    """Return the samples by asset that were known at an instant; None: what was known last."""
    samples: dict[str, tuple[list[int], list[float]]] = {}
    latest = np.iinfo(np.int64).max if known_at is None else known_at
    for asset, time, price, recorded_at, replaced_at, *_ in rows:
        if recorded_at <= latest and (replaced_at is None or (known_at is not None and replaced_at > known_at)):
            times, prices = samples.setdefault(asset, ([], []))
            times.append(time)
            prices.append(price)
    return samples
