"""Moves that come back: of one coin alone (a spike), and of most coins of one source together (common mode)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import attrs
import numpy as np
import pandas as pd

from tonsurance_risk.assets import NOT_COINS_ON_PEG, RESERVE_GROUPS
from tonsurance_risk.core.prices import peg_of
from tonsurance_risk.model import FixedPeg, PegLike
from tonsurance_risk.values import BoolArray, FloatArray, IntArray

FINDING = ["asset", "time", "price", "check", "action", "detail"]
Action = Literal["reject", "flag"]
_FEWEST = 3
"""Two coins that move together are a pair; they say nothing of a source."""
_BACK = 0.5
"""A coin is back when it is less than this share of the print from its level, as the neighbours of a spike are."""
_NOISE = 4.5
"""How many median absolute shifts of a coin around a print, 3 standard deviations, are noise on top of it.
At most the tolerance again counts as noise: a coin that is that restless can hide a move of its own."""
_RETURNS_A_WINDOW = 5
"""Width of the window of the level in times of the longest print. The last samples have half a window, the past
alone, and a print must not fill half of that: the level would become that of the print."""


@attrs.frozen(kw_only=True)
class MoveLimits:
    """What a spike and a common-mode print are; see `QualityRules` for the meaning and reason of each."""

    spike_mads: float
    spike_floor: float
    spike_reject: float
    step: timedelta
    window: timedelta
    common_floor: float
    common_tolerance: float
    common_return: timedelta
    common_off_peg: float


@attrs.define
class Column:
    """One asset during the checks: its samples in order, and what was found so far."""

    asset: str
    rows: IntArray  # of its samples in the frame
    times: pd.DatetimeIndex
    values: FloatArray
    rejected: BoolArray
    questionable: BoolArray
    findings: list[dict[str, Any]]

    def find(self, where: BoolArray, check: str, action: Action, detail: str) -> None:
        """Note a finding at each sample of `where`."""
        self.note(dict.fromkeys(np.flatnonzero(where).tolist(), (action, detail)), check)

    def note(self, found: Mapping[int, tuple[Action, str]], check: str) -> None:
        """Note findings by the position of the sample."""
        for at, (action, detail) in found.items():
            self.questionable[at] = True
            self.rejected[at] |= action == "reject"
            self.findings.append(self.finding(self.times[at], float(self.values[at]), check, action, detail))

    def finding(self, time: Any, price: float | None, check: str, action: Action, detail: str) -> dict[str, Any]:
        """Return one row of the table of findings."""
        return dict(zip(FINDING, (self.asset, time, price, check, action, detail), strict=True))


@attrs.frozen
class Move:
    """A sample of a coin away from its local level.

    Parameters
    ----------
    at : int
        Position: among the samples that `find_spikes` was given, or the row for `find_common_mode`.
    level, away : float
        The local level and the distance from it [USD].
    returned : bool
        Whether the return was seen; without it nobody can know yet.
    coins : str
        How many coins share the move, of how many.
    """

    at: int
    level: float
    away: float
    returned: bool
    coins: str = ""


@attrs.frozen
class _Together:
    """Rows at which enough coins shift by nearly the same amount."""

    rows: IntArray
    size: FloatArray  # the shift that they share, signed
    member: BoolArray  # (n_rows, n_coins)
    seen: BoolArray  # (n_rows, n_coins)

    def part(self, begin: int, end: int) -> _Together:
        which = slice(begin, end)
        return _Together(self.rows[which], self.size[which], self.member[which], self.seen[which])


@attrs.frozen
class _Run:
    """The samples of one coin that are away with the print, and whether it was seen to come back.

    `before` and `after` are the samples beside them that the print covers in part: one or none each.
    """

    coin: int
    rows: IntArray
    before: IntArray
    after: IntArray
    returned: bool

    def within(self, shared: IntArray) -> IntArray:
        """Return the rows at which the print is shared, and the bar beside them on either side.

        A coin that is away for longer than a bar beside the print has a move of its own there.
        """
        inside = np.flatnonzero(np.isin(self.rows, shared))
        first, last = int(inside[0]), int(inside[-1])
        left = self.before if first == 0 else self.rows[:first]
        right = self.after if last == len(self.rows) - 1 else self.rows[last + 1 :]
        beside = [part if len(part) == 1 else part[:0] for part in (left, right)]
        return np.concatenate([beside[0], self.rows[first : last + 1], beside[1]])


def check_moves(
    columns: Sequence[Column],
    index: pd.DatetimeIndex,
    confirming: Sequence[pd.DataFrame],
    limits: MoveLimits,
    peg: PegLike = None,
) -> None:
    """Note spikes and common-mode prints; `confirming` are the frames of independent sources.

    A rejected spike does not count among the coins of a common-mode print, so those come first. What most
    coins share is no spike of one of them, so the spikes that are flagged come last: one sample gets one action.
    """
    spikes, shown = [], []
    for column in columns:
        shown.append([other[column.asset].dropna() for other in confirming if column.asset in other.columns])
        kept = np.flatnonzero(~column.rejected)
        moves = find_spikes(column.values[kept], column.times[kept], limits)
        at = {int(kept[move.at]): move for move in moves}
        spikes.append({k: _judged(column.times[k], at[k], shown[-1], limits, limits.spike_reject) for k in at})
        column.note({k: what for k, what in spikes[-1].items() if what[0] == "reject"}, "spike")
    common, _ = find_common_mode(columns, index, limits)
    for column, sources, single in zip(columns, shown, spikes, strict=True):
        shared: dict[int, tuple[Action, str]] = {}
        for move in common.get(column.asset, ()):
            k = int(np.searchsorted(column.rows, move.at))
            what = _judged(column.times[k], move, sources, limits, 0.0)
            if what[0] == "reject" and _off_peg_before(column.asset, move, limits, peg):
                what = "flag", f"{what[1]}, from a level that is off its peg by itself"
            if k not in shared or what[0] == "reject":
                shared[k] = what
        column.note(shared, "common_mode")
        column.note({k: what for k, what in single.items() if what[0] == "flag" and k not in shared}, "spike")


def _judged(
    time: pd.Timestamp, move: Move, sources: Sequence[pd.Series], limits: MoveLimits, harmless: float
) -> tuple[Action, str]:
    """Return the action for a move and its reason; up to the share `harmless` of its level none is rejected."""
    share = move.away / move.level
    detail = f"{share:+.2%} from the local median {move.level:.6g}{move.coins}"
    confirmed = any(_shows_half(source, time, limits, move) for source in sources)
    if confirmed:
        detail += ", shown by another source"
    elif not move.returned:
        detail += ", not known yet whether it lasts"
    reject = move.returned and not confirmed and abs(share) > harmless
    return ("reject" if reject else "flag"), detail


def _shows_half(source: pd.Series, time: pd.Timestamp, limits: MoveLimits, move: Move) -> bool:
    nearby = source.loc[time - limits.step : time + limits.step].to_numpy()
    return bool(((nearby - move.level) * np.sign(move.away) >= abs(move.away) / 2.0).any())


def _off_peg_before(asset: str, move: Move, limits: MoveLimits, peg: PegLike) -> bool:
    """Return whether the level is off the peg already, on the side of the move: the depeg is not the print's."""
    match peg_of(asset, peg):
        case FixedPeg(price):
            return bool(np.sign(move.away) * (move.level / price - 1.0) >= limits.common_off_peg)
        case _:
            return False


def local_median(values: FloatArray, times: pd.DatetimeIndex, window: timedelta) -> FloatArray:
    """Return the median of the samples in a window of time centred on each one, column by column."""
    return np.asarray(pd.DataFrame(values, index=times).rolling(window, center=True, min_periods=1).median())


def find_spikes(values: FloatArray, times: pd.DatetimeIndex, limits: MoveLimits) -> list[Move]:
    """Return the isolated moves of one coin, and a last one of which nobody knows yet.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Samples that were not rejected [USD].
    times : DatetimeIndex of shape (n,)
        Strictly increasing.
    limits : MoveLimits
        Limits.
    """
    if len(values) < 3:
        return []
    median = local_median(values, times, limits.window)[:, 0]
    away = values - median
    size = np.abs(away)
    candidate = size > limits.spike_floor * median
    if candidate.any():
        candidate &= size > limits.spike_mads * local_median(size, times, limits.window)[:, 0]

    # The move of a neighbour counts against the median of the candidate.
    near = np.diff(times.as_unit("ns").asi8) <= limits.window.total_seconds() * 1e9 / 2.0
    back_before, back_after = np.zeros(len(values), dtype=bool), np.zeros(len(values), dtype=bool)
    back_before[1:] = near & (np.abs(values[:-1] - median[1:]) < size[1:] / 2.0)
    back_after[:-1] = near & (np.abs(values[1:] - median[:-1]) < size[:-1] / 2.0)
    isolated = candidate & back_before & back_after
    unknown = candidate & back_before
    unknown[:-1] = False
    return [
        Move(k, float(median[k]), float(away[k]), bool(isolated[k]))
        for k in np.flatnonzero(isolated | unknown).tolist()
    ]


def find_common_mode(
    columns: Sequence[Column], index: pd.DatetimeIndex, limits: MoveLimits
) -> tuple[dict[str, list[Move]], BoolArray]:
    """Return the prints that most coins of one source share, by coin, and the rows of common mode.

    Parameters
    ----------
    columns : sequence of Column
        The assets; BTC, ETH and samples rejected so far are left out.
    index : DatetimeIndex of shape (n_times,)
        Strictly increasing.
    limits : MoveLimits
        Limits.

    Returns
    -------
    moves : dict of str to list of Move
        Samples of the members alone, and of the bars beside the print.
    rows : ndarray of bool of shape (n_times,)
        Where coins move together, whether they come back or not.

    Notes
    -----
    The shift of a sample is its distance from its local level, the median of a centred window, as a share of
    it. Where two thirds of the coins shift by nearly the same amount, the median shift of *all* coins is one of
    theirs, so no group has to be searched for: a member shifts by that median give or take the tolerance.

    The run of a member is the stretch in which it is at least half of the print away. A coin that goes further
    than the print in its run moves by itself and is no member; nor is one whose run lasts longer than a print
    may. The members that are left must still be enough. A run at the very beginning has no level before it, so
    nobody knows how long it lasted, and it counts as not returned. Of each run only the rows at which enough coins
    are away at once, and one bar beside them, belong to the print: the rest is a depeg of that coin.

    The cost is that of a median of windows; the rest grows with the rows at which coins move together.
    """
    in_mode = np.zeros(len(index), dtype=bool)
    moves: dict[str, list[Move]] = {}
    coins = [column for column in columns if column.asset not in NOT_COINS_ON_PEG]
    if len(coins) < _FEWEST or not len(index):
        return moves, in_mode
    prices = not_rejected(coins, len(index))
    level = local_median(prices, index, max(limits.window, _RETURNS_A_WINDOW * limits.common_return))
    shift = prices / level - 1.0
    groups = np.unique([RESERVE_GROUPS.get(coin.asset, coin.asset) for coin in coins], return_inverse=True)[1]
    together = _together(shift, groups, limits)
    in_mode[together.rows] = True
    for episode in _episodes(together):
        largest = int(np.argmax(np.abs(episode.size)))
        of_coins = f", as {episode.member[largest].sum()} of {episode.seen[largest].sum()} coins of the source"
        for run in _runs_that_count(episode, level, shift, index, groups, limits):
            in_mode[run.rows] = True
            moves.setdefault(coins[run.coin].asset, []).extend(
                Move(
                    row, level[row, run.coin], prices[row, run.coin] - level[row, run.coin], run.returned, of_coins
                )
                for row in run.rows.tolist()
            )
    return moves, in_mode


def not_rejected(columns: Sequence[Column], n_rows: int) -> FloatArray:
    """Return a table of the samples not rejected so far, a column an asset, NaN elsewhere."""
    prices = np.full((n_rows, len(columns)), np.nan)
    for j, column in enumerate(columns):
        kept = ~column.rejected
        prices[column.rows[kept], j] = column.values[kept]
    return prices


def _together(shift: FloatArray, groups: IntArray, limits: MoveLimits) -> _Together:
    seen = ~np.isnan(shift)
    n_seen = seen.sum(axis=1)
    # The smallest member of the smallest print; the comparison leaves NaN out.
    moved = (np.abs(shift) >= (1.0 - limits.common_tolerance) * limits.common_floor).sum(axis=1)
    rows = np.flatnonzero((n_seen >= _FEWEST) & (3 * moved >= 2 * n_seen))
    size = np.nanmedian(shift[rows], axis=1) if len(rows) else np.empty(0)
    member = np.abs(shift[rows] - size[:, None]) <= limits.common_tolerance * np.abs(size)[:, None]
    found = _enough(member, seen[rows], groups) & (np.abs(size) >= limits.common_floor)
    return _Together(rows[found], size[found], member[found], seen[rows][found])


def _enough(member: BoolArray, seen: BoolArray, groups: IntArray) -> BoolArray:
    """Return whether two thirds of five or more, or all of three or four from two reserve groups, are members."""
    k, n = member.sum(axis=1), seen.sum(axis=1)
    several = np.where(seen, groups, groups.max()).min(axis=1) < np.where(seen, groups, 0).max(axis=1)
    return np.asarray(np.where(n >= 5, 3 * k >= 2 * n, (n >= _FEWEST) & (k == n) & several))


def _episodes(together: _Together) -> Iterator[_Together]:
    """Split at rows that are not neighbours or shift the other way."""
    cuts = (np.diff(together.rows) > 1) | (np.diff(np.sign(together.size)) != 0.0)
    starts = [0, *(np.flatnonzero(cuts) + 1).tolist()] if len(together.rows) else []
    for begin, end in itertools.pairwise([*starts, len(together.rows)]):
        yield together.part(begin, end)


def _runs_that_count(
    episode: _Together,
    level: FloatArray,
    shift: FloatArray,
    times: pd.DatetimeIndex,
    groups: IntArray,
    limits: MoveLimits,
) -> Iterator[_Run]:
    """Yield the runs of the members where those that came back, or may still do so, are enough."""
    coins = np.flatnonzero(episode.member.any(axis=0)).tolist()
    runs = [run for coin in coins for run in _runs_of(coin, episode, level, shift, times, limits)]
    certain = _rows_of([run for run in runs if run.returned], episode, groups)
    possible = _rows_of(runs, episode, groups)
    kept = []
    for run in runs:
        returned = run.returned and bool(np.isin(run.rows, certain).any())
        if returned or np.isin(run.rows, possible).any():
            kept.append(attrs.evolve(run, returned=returned))
    shared = _shared_rows(kept, shift, groups)
    for run in kept:
        yield attrs.evolve(run, rows=run.within(shared))


def _shared_rows(runs: Sequence[_Run], shift: FloatArray, groups: IntArray) -> IntArray:
    """Return the rows at which enough coins are away at once."""
    if not runs:
        return np.empty(0, dtype=np.int64)
    begin, end = min(run.rows[0] for run in runs), max(run.rows[-1] for run in runs) + 1
    away = np.zeros((end - begin, shift.shape[1]), dtype=bool)
    for run in runs:
        away[run.rows - begin, run.coin] = True
    return np.asarray(begin + np.flatnonzero(_enough(away, ~np.isnan(shift[begin:end]), groups)))


def _rows_of(runs: Sequence[_Run], episode: _Together, groups: IntArray) -> IntArray:
    """Return the rows of the episode at which the coins of `runs` alone are enough."""
    member = np.zeros_like(episode.member)
    for run in runs:
        member[:, run.coin] |= episode.member[:, run.coin] & np.isin(episode.rows, run.rows)
    return episode.rows[_enough(member, episode.seen, groups)]


def _runs_of(
    coin: int,
    episode: _Together,
    level: FloatArray,
    shift: FloatArray,
    times: pd.DatetimeIndex,
    limits: MoveLimits,
) -> Iterator[_Run]:
    """Yield the runs of one member that came back in time, or may still do so."""
    samples = _samples_near(np.flatnonzero(~np.isnan(shift[:, coin])), episode.rows, times, limits.common_return)
    sign, size = np.sign(episode.size[0]), float(np.abs(episode.size).max())
    moved = sign * shift[samples, coin]
    seen = episode.seen[:, coin]
    at = np.searchsorted(samples, episode.rows[seen])
    member = at[episode.member[seen, coin]]
    away = moved >= _BACK * size
    away[member] = True
    # What the print itself reaches at a sample: beyond it a coin moves by itself.
    reach = np.full(len(samples), size)
    reach[at] = np.abs(episode.size[seen])
    noise = min(_NOISE * float(np.median(np.abs(moved))), limits.common_tolerance * size)
    own = moved > (1.0 + limits.common_tolerance) * reach + noise
    beside = moved >= max(limits.common_floor, limits.common_tolerance * size)

    back = np.flatnonzero(~away)
    last = -1
    for k in member.tolist():
        if k <= last:
            continue
        after = int(np.searchsorted(back, k))
        first = int(back[after - 1]) + 1 if after else 0
        last = int(back[after]) - 1 if after < len(back) else len(samples) - 1
        has_end = last + 1 < len(samples)
        lasted = times[samples[last + has_end]] - times[samples[first]]
        # Behind a gap longer than a print may last nobody knows when the coin came back.
        unseen = has_end and times[samples[last + 1]] - times[samples[last]] > limits.common_return
        if own[first : last + 1].any() or (lasted > limits.common_return and not unseen):
            continue
        left = samples[first - int(first > 0 and beside[first - 1]) : first]
        right = samples[last + 1 : last + 1 + int(has_end and beside[last + 1])]
        returned = has_end and first > 0 and not unseen
        if returned:
            # Not only to a level that has followed the move: to where the price was, or to the level where a
            # price is on the other side of it.
            around = [first - 1, last + 1]
            home = level[samples[around], coin] * (1.0 + sign * np.maximum(moved[around], 0.0))
            returned = bool(abs(home[1] / home[0] - 1.0) < _BACK * size)
            if not returned and times[samples[-1]] - times[samples[first]] > limits.common_return:
                continue
        yield _Run(coin, samples[first : last + 1], left, right, returned)


def _samples_near(samples: IntArray, rows: IntArray, times: pd.DatetimeIndex, reach: timedelta) -> IntArray:
    """Return the samples that a run around `rows` can hold, and one more on either side."""
    begin = times.searchsorted(times[rows[0]] - reach)
    end = times.searchsorted(times[rows[-1]] + reach, side="right")
    first, last = np.searchsorted(samples, [begin, end])
    return samples[max(0, first - 1) : last + 1]
