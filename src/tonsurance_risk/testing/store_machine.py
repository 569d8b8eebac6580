"""A store beside the one in memory, under any sequence of writes and reads."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tonsurance_risk.core.correlation import CorrelationMatrix
from tonsurance_risk.model import Scenario
from tonsurance_risk.ports import Store
from tonsurance_risk.storage import MemoryStore
from tonsurance_risk.storage.price_rows import MARKS
from tonsurance_risk.testing.examples import HOUR, NOON, SetClock, event
from tonsurance_risk.testing.job_contract import change, report

symbols = st.sampled_from(["USDC", "ä", "it's"])
sources = st.sampled_from(["one", "two"])
steps = st.sampled_from(["1h", "1d"])
places = st.integers(0, 4)
prices = st.sampled_from([0.5, 0.9, 1.0, 1.1, float("nan")])
bounds = st.none() | places.map(lambda place: NOON + place * HOUR)
rates = st.sampled_from([0.0, 0.25, 0.5, 1.0])


class StoreMachine(RuleBasedStateMachine):
    """Whatever is written and read in whatever order, a store and memory give the same.

    A subclass opens its store in `open`; where that gives the same data again, `reopens` says so.
    """

    reopens = False

    def open(self) -> Store:
        """Return the store, open; empty in a new machine."""
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        """Open both."""
        self.clock = SetClock()
        self.stores = (MemoryStore(self.clock), self.open())

    def teardown(self) -> None:
        """Close the store."""
        if hasattr(self, "stores"):
            self.stores[1].close()

    def both(self, use) -> None:
        results = []
        for store in self.stores:
            try:
                results.append(use(store))
            except (ValueError, LookupError) as error:
                results.append((type(error), str(error)))
        memory, other = results
        if isinstance(memory, pd.DataFrame):
            pd.testing.assert_frame_equal(memory, other, check_exact=True)
        else:
            assert memory == other

    @rule(hours=st.integers(-3, 5))
    def set_clock(self, hours: int) -> None:
        self.clock.time += hours * HOUR

    @rule(
        columns=st.dictionaries(symbols, st.lists(prices, min_size=3, max_size=3), max_size=3),
        first=places,
        source=sources,
        step=steps,
    )
    def save_prices(self, columns: dict, first: int, source: str, step: str) -> None:
        index = pd.date_range(NOON + first * HOUR, periods=3, freq="h")
        frame = pd.DataFrame(columns, index=index, dtype=float)
        self.both(lambda store: store.save_prices(frame, source=source, step=step))

    @rule(
        assets=st.none() | st.lists(symbols, unique=True),
        start=bounds,
        end=bounds,
        step=steps,
        source=st.none() | sources,
        ago=st.none() | st.integers(-3, 12),
    )
    def load_prices(self, assets, start, end, step, source, ago) -> None:
        known_at = None if ago is None else self.clock.time - ago * HOUR
        self.both(lambda store: store.load_prices(assets, start, end, step=step, source=source, known_at=known_at))

    @rule(
        given=st.lists(
            st.builds(
                lambda asset, first, length, source, direction, gap: event(
                    asset=asset,
                    start=NOON + first * HOUR,
                    end=NOON + (first + length) * HOUR,
                    source=source,
                    direction=direction,
                    max_gap=gap,
                ),
                symbols,
                st.integers(0, 12),
                st.integers(0, 3),
                st.none() | sources,
                st.sampled_from(["below", "above"]),
                st.none() | st.just(HOUR),
            ),
            max_size=4,
        )
    )
    def save_events(self, given: list) -> None:
        self.both(lambda store: store.save_events(given))

    @rule(
        assets=st.none() | st.lists(symbols, unique=True),
        start=bounds,
        end=bounds,
        source=st.none() | sources,
    )
    def load_events(self, assets, start, end, source) -> None:
        self.both(lambda store: store.load_events(assets, start, end, source=source))

    @rule(
        assets=st.lists(symbols, min_size=1, max_size=4, unique=True),
        r=rates,
        place=places,
        days=st.sampled_from([30, 90]),
        source=sources,
    )
    def save_correlations(self, assets, r, place, days, source) -> None:
        n = len(assets)
        values = np.full((n, n), r)
        np.fill_diagonal(values, 1.0)
        matrix = CorrelationMatrix(
            assets, values, np.full((n, n), place), ~np.eye(n, dtype=bool), days, NOON + place * HOUR
        )
        self.both(lambda store: store.save_correlations([matrix], source=source, step="1h"))

    @rule(days=st.sampled_from([30, 90]), source=sources, as_of=bounds)
    def load_correlations(self, days, source, as_of) -> None:
        self.both(lambda store: store.load_correlations(window_days=days, source=source, step="1h", as_of=as_of))

    @rule(given=st.lists(st.builds(Scenario, symbols, rates, btc_change=rates), max_size=3), least=rates)
    def scenarios(self, given, least) -> None:
        self.both(lambda store: store.save_scenarios(given))
        self.both(lambda store: store.load_scenarios(min_probability=least))

    @rule(place=places, value=rates, source=sources, step=steps, start=bounds, end=bounds)
    def reports(self, place, value, source, step, start, end) -> None:
        document = {"as_of": (NOON + place * HOUR).isoformat(), "value": value}
        self.both(lambda store: store.save_reports([document], source=source, step=step))
        self.both(lambda store: store.load_reports(start, end, source=source))
        self.both(lambda store: store.load_reports(start, end, step=step))

    @rule(place=places, value=rates, source=sources, start=bounds, end=bounds)
    def snapshots(self, place, value, source, start, end) -> None:
        index = pd.date_range(NOON + place * HOUR, periods=2, freq="h")
        frame = pd.DataFrame({"var_95": value, "capital": 10.0, "coverage": 5.0}, index=index)
        self.both(lambda store: store.save_snapshots(frame, source=source, step="1h"))
        self.both(lambda store: store.load_snapshots(start, end, source=source, step="1h"))

    @rule(
        name=st.sampled_from(MARKS), values=st.lists(rates, min_size=2, max_size=2), first=places, source=sources
    )
    def marks(self, name, values, first, source) -> None:
        index = pd.date_range(NOON + first * HOUR, periods=2, freq="h")
        frame = pd.DataFrame({"USDC": values}, index=index)
        self.both(lambda store: store.save_marks(name, frame, source=source, step="1h"))
        self.both(lambda store: store.load_marks(name, source=source))

    @rule(job=st.sampled_from(["daily", "weekly"]), place=places, end=st.booleans())
    def jobs(self, job, place, end) -> None:
        date = NOON + place * HOUR
        self.both(lambda store: store.end_job(job, date) if end else store.begin_job(job, date))
        self.both(lambda store: store.load_jobs())

    @rule(
        place=places,
        names=st.lists(symbols, max_size=3),
        deliver=st.booleans(),
        job=st.sampled_from([None, "daily"]),
    )
    def alerts(self, place, names, deliver, job) -> None:
        document = report(*map(change, names), time=NOON + place * HOUR)
        self.both(lambda store: store.save_reports([document], source="one", step="1h", job=job))
        self.both(lambda store: store.load_jobs())
        if deliver:
            self.both(lambda store: store.mark_delivered(store.load_alerts()[:2], sink="log"))
        self.both(lambda store: store.load_alerts())
        self.both(lambda store: store.load_alerts(waiting_for="log"))

    @rule(value=rates)
    def run_inputs(self, value) -> None:
        self.both(lambda store: store.save_run_inputs({"value": value}))

    @precondition(lambda self: self.reopens)
    @rule()
    def open_again(self) -> None:
        """Nothing depends on the store staying open."""
        self.stores[1].close()
        self.stores = (self.stores[0], self.open())
