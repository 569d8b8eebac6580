"""What every price source does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest

from tonsurance_risk.core.prices import valid_prices
from tonsurance_risk.errors import GranularityError, InvalidPriceError, UnknownAssetError
from tonsurance_risk.ports import PriceSource
from tonsurance_risk.sources.steps import STEPS
from tonsurance_risk.storage import open_store


class SourceContract:
    """The tests of a price source. A subclass gives the fixture `source`, and says what it is to be asked for.

    Attributes
    ----------
    asset : str
        A symbol that the source carries, as `get_asset` spells it.
    unknown_asset : str
        One that it does not.
    step : str
        The step of the questions.
    start, end : datetime
        An interval in which it has at least four samples, and none is still to come.
    """

    asset = "USDC"
    unknown_asset = "NO-SUCH-COIN"
    step = "1h"
    start: datetime
    end: datetime

    @pytest.fixture
    def prices(self, source: PriceSource) -> pd.Series:
        """Return what the source has in the whole interval."""
        return source.fetch(self.asset, self.start, self.end, step=self.step)

    def test_it_has_a_name(self, source: PriceSource) -> None:
        """How it is called in the store and in every report; the same each time."""
        assert isinstance(source, PriceSource)
        assert isinstance(source.name, str)
        assert source.name == source.name.strip() != ""
        assert source.name == source.name

    def test_prices_are_valid(self, prices: pd.Series) -> None:
        """Floats over a strictly increasing UTC index, positive and finite, named by the symbol."""
        assert isinstance(prices, pd.Series)
        assert prices.name == self.asset
        assert prices.dtype == np.float64
        assert str(prices.index.tz) == "UTC"
        assert len(prices) >= 4, "the contract needs an interval with at least four samples"
        assert prices.notna().all(), "nothing observed is no sample"
        assert valid_prices(prices)[self.asset].equals(prices)

    def test_intervals_are_half_open(self, source: PriceSource, prices: pd.Series) -> None:
        """The start belongs to the interval, the end does not."""
        first, second, third = prices.index[1:4]
        between = source.fetch(self.asset, first, third, step=self.step)
        assert between.index.tolist() == [first, second]
        assert prices.index[0] >= self.start
        assert prices.index[-1] < self.end

    def test_parts_make_the_whole(self, source: PriceSource, prices: pd.Series) -> None:
        """Two intervals side by side give the samples of both, with the same prices."""
        middle = prices.index[len(prices) // 2] - timedelta(microseconds=1)
        parts = [
            source.fetch(self.asset, *interval, step=self.step)
            for interval in ((self.start, middle), (middle, self.end))
        ]
        pd.testing.assert_series_equal(pd.concat(parts), prices, check_freq=False, check_exact=True)

    def test_samples_are_a_step_apart(self, prices: pd.Series) -> None:
        """In the middle; where one is missing the distance is longer."""
        assert prices.index.to_series().diff().median() == STEPS[self.step]

    def test_again_gives_the_same(self, source: PriceSource, prices: pd.Series) -> None:
        """And what was given belongs to whom it was given."""
        before = prices.copy()
        prices.iloc[:] = 7.0
        again = source.fetch(self.asset, self.start, self.end, step=self.step)
        pd.testing.assert_series_equal(again, before, check_freq=False, check_exact=True)

    @pytest.mark.parametrize("spell", [str.lower, str.upper])
    def test_symbols_in_any_case(self, source: PriceSource, prices: pd.Series, spell) -> None:
        """As `get_asset` takes them."""
        again = source.fetch(spell(self.asset), self.start, self.end, step=self.step)
        pd.testing.assert_series_equal(again, prices, check_freq=False, check_exact=True)

    def test_another_zone_is_the_same_instant(self, source: PriceSource, prices: pd.Series) -> None:
        """Only instants count."""
        zone = timezone(timedelta(hours=5, minutes=45))
        again = source.fetch(self.asset, self.start.astimezone(zone), self.end.astimezone(zone), step=self.step)
        pd.testing.assert_series_equal(again, prices, check_freq=False, check_exact=True)

    @pytest.mark.parametrize("which", ["start", "end"])
    def test_naive_times_are_refused(self, source: PriceSource, which: str) -> None:
        """Nobody knows which instant they are."""
        times = {"start": self.start, "end": self.end}
        times[which] = times[which].replace(tzinfo=None)
        with pytest.raises(InvalidPriceError, match="tz-aware"):
            source.fetch(self.asset, times["start"], times["end"], step=self.step)

    @pytest.mark.parametrize("hours", [0, 5])
    def test_no_interval_has_no_samples(self, source: PriceSource, hours: int) -> None:
        """Where the end is not after the start."""
        nothing = source.fetch(self.asset, self.end, self.end - timedelta(hours=hours), step=self.step)
        assert nothing.empty
        assert nothing.name == self.asset
        assert nothing.dtype == np.float64
        assert str(nothing.index.tz) == "UTC"

    def test_what_is_still_to_come_is_not_there(self, source: PriceSource) -> None:
        """The future is empty, and no error."""
        future = datetime(2099, 1, 1, tzinfo=UTC)
        assert source.fetch(self.asset, future, future + timedelta(days=2), step=self.step).empty

    def test_an_asset_that_it_does_not_carry(self, source: PriceSource) -> None:
        """Is an error that names it."""
        with pytest.raises(UnknownAssetError) as caught:
            source.fetch(self.unknown_asset, self.start, self.end, step=self.step)
        assert self.unknown_asset in str(caught.value)

    @pytest.mark.parametrize("step", ["7m", "", "1H"])
    def test_a_step_that_it_does_not_have(self, source: PriceSource, step: str) -> None:
        """Is never answered with another one."""
        with pytest.raises(GranularityError):
            source.fetch(self.asset, self.start, self.end, step=step)

    def test_threads_may_share_it(self, source: PriceSource, prices: pd.Series) -> None:
        """Each gets its own answer."""
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(source.fetch, self.asset, self.start, self.end, step=self.step) for _ in range(8)]
        for answer in asked:
            pd.testing.assert_series_equal(answer.result(), prices, check_freq=False, check_exact=True)

    def test_a_store_gives_the_prices_back(self, source: PriceSource, prices: pd.Series) -> None:
        """All of them, to the last digit."""
        with open_store("memory://") as store:
            store.save_prices(prices, source=source.name, step=self.step)
            stored = store.load_prices(step=self.step, source=source.name)[self.asset]
        assert stored.tolist() == prices.tolist()
        assert stored.index.tolist() == prices.index.tolist()
