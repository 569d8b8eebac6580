"""Prices that move from an SQL database to archives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import attrs
import pandas as pd
from sqlalchemy import BigInteger, Connection, delete, func, insert, literal, null, select, type_coerce, union_all

from tonsurance_risk.errors import StorageError
from tonsurance_risk.storage.archives import ArchivedRow, PriceArchive
from tonsurance_risk.storage.instants import now, whole_microseconds
from tonsurance_risk.storage.price_rows import MARKS
from tonsurance_risk.storage.schema import price_archives, price_history, price_revision
from tonsurance_risk.storage.sql_part import SqlPart, equal, inside


class SqlArchives(SqlPart):
    """What the maintenance of prices needs of a store."""

    def oldest_prices(self, before: datetime) -> list[tuple[str, str, pd.Timestamp]]:
        """Return each source and step that has prices before an instant, with the time of the oldest."""
        prices = price_history.c
        found = (
            select(prices.source, prices.step, func.min(prices.time).label("oldest"))
            .where(prices.time < whole_microseconds(before, "before"))
            .group_by(prices.source, prices.step)
            .order_by(prices.source, prices.step)
        )
        return [(row["source"], row["step"], row["oldest"]) for row in self._rows(found)]

    def archive_rows(self, source: str, step: str, start: datetime, end: datetime) -> list[ArchivedRow]:
        """Return all prices of ``[start, end)`` and their revisions, by asset, time and instant of recording."""
        return self._read(lambda connection: _rows_of(connection, source, step, start, end))

    def replace_by_archive(self, archive: PriceArchive, rows: Sequence[ArchivedRow]) -> int:
        """Delete prices that a file holds and write the file into the books, both or neither; return how many.

        Raises
        ------
        StorageError
            If the prices are not, or no longer, those in `rows`; nothing is deleted then.
        """
        row = attrs.asdict(attrs.evolve(archive, archived_at=now(self._clock)))

        def work(connection: Connection) -> int:
            # A commit that arrived although its answer did not.
            if connection.execute(select(price_archives).where(*equal(price_archives, _key(row)))).first():
                return len(rows)
            there = _rows_of(connection, archive.source, archive.step, archive.start, archive.end)
            if there != list(rows):
                raise StorageError(
                    f"prices of {archive.source} from {archive.start} to {archive.end} changed while they were "
                    f"archived; nothing was deleted, archive them again"
                )
            for table in (price_history, price_revision):
                place = equal(table, {"source": archive.source, "step": archive.step})
                connection.execute(delete(table).where(*place, *inside(table.c.time, archive.start, archive.end)))
            connection.execute(insert(price_archives), row)
            return len(rows)

        return self._write(work)

    def load_archives(self, source: str | None = None, step: str | None = None) -> list[PriceArchive]:
        """Return the files of old prices, in the order in which they were written."""
        asked = {name: value for name, value in (("source", source), ("step", step)) if value is not None}
        found = select(price_archives).where(*equal(price_archives, asked))
        in_order = found.order_by(price_archives.c.archived_at, price_archives.c.start, price_archives.c.file)
        return [PriceArchive(**row) for row in self._rows(in_order)]


def _key(row: dict[str, object]) -> dict[str, object]:
    return {name: row[name] for name in ("source", "step", "file")}


def _rows_of(connection: Connection, source: str, step: str, start: datetime, end: datetime) -> list[ArchivedRow]:
    held, gone = price_history.c, price_revision.c
    no_marks = [type_coerce(null(), held[name].type).label(name) for name in MARKS]
    parts = (
        select(
            table.c.asset,
            type_coerce(table.c.time, BigInteger).label("time"),
            table.c.price,
            type_coerce(table.c.recorded_at, BigInteger).label("recorded_at"),
            replaced_at.label("replaced_at"),
            *marks,
        ).where(*equal(table, {"source": source, "step": step}), *inside(table.c.time, start, end))
        for table, replaced_at, marks in (
            (price_history, literal(None, BigInteger), [held[name] for name in MARKS]),
            (price_revision, type_coerce(gone.replaced_at, BigInteger), no_marks),
        )
    )
    both = union_all(*parts).subquery().c
    # Of prices recorded at one instant the one that was replaced last is the later; what was not replaced is last.
    order = (both.asset, both.time, both.recorded_at, both.replaced_at.is_(None), both.replaced_at, both.price)
    return [tuple(row) for row in connection.execute(select(*both).order_by(*order))]
