"""Old prices out of the way, and a replay that reads them all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from tonsurance_risk.storage import SqlStore
from tonsurance_risk.storage.archives import PriceArchive, known_prices, read, written
from tonsurance_risk.storage.instants import time_to_microseconds
from tonsurance_risk.storage.price_rows import wide_frame
from tonsurance_risk.values import as_utc


def archive_prices(
    store: SqlStore,
    folder: Path,
    *,
    before: datetime,
    progress: Callable[[str], None] = lambda _what: None,
) -> list[PriceArchive]:
    """Move prices of whole months before an instant to files, month by month; return the files.

    Each month is written, read again and compared before it is deleted, and it is deleted together with the entry
    that says where it is. A run that was interrupted is completed by the next one.

    Parameters
    ----------
    store : SqlStore
        One in a database.
    folder : Path
        Where the files go; made where it is missing.
    before : datetime
        The month that holds this instant stays, and all later ones.
    progress : callable
        Told about each file.

    Raises
    ------
    StorageError
        If a file cannot be written, or prices change meanwhile; nothing that is not in a file is deleted.
    """
    end = _month(as_utc(before, "before"))
    made = []
    for source, step, oldest in store.oldest_prices(end):
        month = _month(oldest)
        while month < end:
            following = _month(month + timedelta(days=32))
            rows = store.archive_rows(source, step, month, following)
            if rows:
                file, sha256 = written(folder, source, step, month, rows)
                archive = PriceArchive(
                    source=source,
                    step=step,
                    start=month,
                    end=following,
                    file=file,
                    sha256=sha256,
                    n_rows=len(rows),
                    archived_at=month,  # the store says when
                )
                store.replace_by_archive(archive, rows)
                made.append(archive)
                progress(file)
            month = following
    return made


def _month(time: pd.Timestamp) -> pd.Timestamp:
    return time.normalize().replace(day=1)


def replay_prices(
    store: SqlStore,
    folder: Path,
    assets: Iterable[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    *,
    source: str,
    step: str = "1h",
    known_at: datetime | None = None,
) -> pd.DataFrame:
    """Return prices as `PriceStore.load_prices` does, those in archives included.

    Parameters
    ----------
    store : SqlStore
        One in a database.
    folder : Path
        Where `archive_prices` wrote the files.
    assets, start, end, source, step, known_at
        As in `load_prices`.

    Raises
    ------
    StorageError
        If a file that is needed is missing.
    StoreCorruptError
        If it is not the one that was written.
    """
    wanted = None if assets is None else list(assets)
    live = store.load_prices(wanted, start, end, source=source, step=step, known_at=known_at)
    low, high = (None if time is None else as_utc(time, "an end of the interval") for time in (start, end))
    instant = None if known_at is None else time_to_microseconds(known_at, "known_at")
    frames = [live]
    # Of two files of one month the later one holds what came after the first was written.
    for archive in reversed(store.load_archives(source, step)):
        if (high is None or archive.start < high) and (low is None or archive.end > low):
            samples = known_prices(read(folder, archive.file, archive.sha256), instant)
            frames.append(wide_frame(samples, sorted(samples)).loc[low:high])
    if len(frames) == 1:
        return live
    whole = frames[0]
    for frame in frames[1:]:
        whole = whole.combine_first(frame)
    if high is not None:
        whole = whole[whole.index < high]
    if wanted is not None:
        return whole.reindex(columns=list(live.columns)).dropna(how="all")
    return whole.dropna(how="all").dropna(axis=1, how="all").sort_index(axis=1)
