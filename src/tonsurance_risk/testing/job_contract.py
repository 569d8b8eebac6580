"""What every store does with jobs, locks and alerts, and once it is closed."""

from __future__ import annotations

import attrs
import pandas as pd
import pytest

from tonsurance_risk.errors import LockHeldError, StorageError
from tonsurance_risk.ports import Store
from tonsurance_risk.testing.examples import HOUR, KEY, NOON, SetClock, hours, snapshots


class LifetimeContract:
    def test_closing_twice_is_fine_and_use_afterwards_is_an_error(self, store: Store) -> None:
        store.close()
        store.close()
        uses = [
            lambda: store.save_prices(hours(1.0), **KEY),
            store.load_prices,
            lambda: store.save_events([]),
            store.load_events,
            lambda: store.save_correlations([], **KEY),
            lambda: store.load_correlations(window_days=30, **KEY),
            lambda: store.save_scenarios([]),
            store.load_scenarios,
            lambda: store.save_reports([], **KEY),
            store.load_reports,
            lambda: store.save_snapshots(snapshots([]), **KEY),
            lambda: store.load_snapshots(**KEY),
            lambda: store.save_run_inputs({}),
            lambda: store.load_run_inputs("0"),
            lambda: store.save_marks("quality", hours(1.0).to_frame(), **KEY),
            lambda: store.load_marks("quality"),
            lambda: store.load_rejects(**KEY),
            lambda: store.load_scenario_events("a"),
            lambda: store.load_backtests(**KEY),
            lambda: store.begin_job("daily", NOON),
            store.load_jobs,
            store.load_alerts,
            lambda: store.mark_delivered([], sink="log"),
            lambda: store.lock("daily", NOON).__enter__(),
            store.__enter__,
        ]
        for use in uses:
            with pytest.raises(StorageError, match="closed"):
                use()

    @pytest.mark.parametrize("wrong", ["nul\0", "half \ud800"])
    def test_a_name_that_no_database_can_keep_is_refused_by_reads_as_well(self, store: Store, wrong: str) -> None:
        reads = [
            lambda: store.load_prices([wrong]),
            lambda: store.load_prices(source=wrong),
            lambda: store.load_prices(step=wrong),
            lambda: store.price_sources(step=wrong),
            lambda: store.load_marks("quality", [wrong]),
            lambda: store.load_rejects(source=wrong, step="1h"),
            lambda: store.load_events([wrong]),
            lambda: store.load_events(source=wrong),
            lambda: store.load_correlations(window_days=30, source="feed", step=wrong),
            lambda: store.load_scenario_events(wrong),
            lambda: store.load_backtests(source=wrong, step="1h"),
            lambda: store.load_reports(source=wrong),
            lambda: store.load_snapshots(source="feed", step=wrong),
            lambda: store.load_run_inputs(wrong),
            lambda: store.load_jobs(wrong),
        ]
        for read in reads:
            with pytest.raises(ValueError, match="without NUL and lone surrogates"):
                read()

    def test_more_than_a_database_can_be_asked_is_refused(self, store: Store) -> None:
        symbols = [f"A{number}" for number in range(10_001)]
        for read in (store.load_prices, store.load_events):
            with pytest.raises(ValueError, match="at most 10,000 symbols"):
                read(symbols)
            assert len(read(symbols[1:])) == 0
        for days in (0, 10**9 + 1, 10**30):
            with pytest.raises(ValueError, match="window_days"):
                store.load_correlations(window_days=days, **KEY)


class LedgerContract:
    def test_a_job_begins_and_ends(self, store: Store, clock: SetClock) -> None:
        """One row a job and date; it counts the attempts and keeps the last."""
        begun = store.begin_job("daily", NOON, host="Ω")
        assert (begun.status, begun.attempts, begun.started_at, begun.ended_at) == ("running", 1, clock.time, None)
        assert (begun.host, begun.forced, begun.rows, begun.details) == ("Ω", False, None, {})
        clock.forward()
        failed = store.end_job("daily", NOON, status="failed", message="x" * 501)
        assert (failed.status, failed.ended_at, len(failed.message)) == ("failed", clock.time, 500)
        again = store.begin_job("daily", NOON.tz_convert("Asia/Tokyo"), forced=True)
        assert (again.status, again.attempts, again.message, again.forced) == ("running", 2, "", True)
        done = store.end_job("daily", NOON, rows=7, message="all of it", details={"failed": {"DAI": "gone"}})
        assert store.load_jobs() == [done]
        assert (done.status, done.rows, done.message, done.forced) == ("done", 7, "all of it", True)
        assert done.details == {"failed": {"DAI": "gone"}}
        for end in ("interrupted", "abandoned"):
            store.begin_job("daily", NOON)
            assert store.end_job("daily", NOON, status=end).status == end

    @pytest.mark.parametrize("wrong", [{"status": "over"}, {"rows": -1}, {"rows": 1.5}, {"message": 3}])
    def test_an_end_that_is_none(self, store: Store, wrong: dict) -> None:
        begun = store.begin_job("daily", NOON)
        with pytest.raises(ValueError, match=next(iter(wrong))):
            store.end_job("daily", NOON, **wrong)
        assert store.load_jobs() == [begun]

    def test_jobs_are_selected(self, store: Store) -> None:
        for job, date in (("weekly", NOON), ("daily", NOON), ("daily", NOON - HOUR)):
            store.begin_job(job, date)
        assert [(one.job, one.logical_date) for one in store.load_jobs()] == [
            ("daily", NOON - HOUR), ("daily", NOON), ("weekly", NOON)
        ]  # fmt: skip
        assert len(store.load_jobs("daily")) == 2
        assert [one.job for one in store.load_jobs(start=NOON)] == ["daily", "weekly"]
        with pytest.raises(LookupError, match="did not begin"):
            store.end_job("weekly", NOON + HOUR)

    def test_one_holder_a_job_and_date(self, store: Store) -> None:
        with store.lock("daily", NOON) as lock:
            lock.verify()
            with pytest.raises(LockHeldError, match="daily"), store.lock("daily", NOON.tz_convert("Asia/Tokyo")):
                pass
            with store.lock("daily", NOON + HOUR), store.lock("weekly", NOON):
                lock.verify()
            lock.verify()
            store.save_prices(hours(1.0), **KEY)  # a lock stops no write
        with store.lock("daily", NOON):
            pass

    def test_a_lock_is_free_after_an_error(self, store: Store) -> None:
        with pytest.raises(RuntimeError, match="the job failed"), store.lock("daily", NOON):
            raise RuntimeError("the job failed")
        with store.lock("daily", NOON):
            pass


def change(key: str, action: str = "trigger", severity: str = "high") -> dict[str, str]:
    """What a report says of an alert."""
    return {"key": key, "action": action, "severity": severity, "message": f"{key}: Ω"}


def report(*changes: dict[str, str], time: pd.Timestamp = NOON) -> dict:
    """A document that says so."""
    return {"as_of": time.isoformat(), "alert_changes": list(changes)}


class OutboxContract:
    def test_alerts_come_with_their_report(self, store: Store) -> None:
        """Each sink gets each of them; of one key and action the first counts."""
        said = [change("b"), change("a", "resolve"), change("b", severity="low")]
        store.save_reports([report(*said)], **KEY)
        waiting = store.load_alerts()
        assert [(one.key, one.action, one.severity, one.message) for one in waiting] == [
            ("b", "trigger", "high", "b: Ω"), ("a", "resolve", "high", "a: Ω")
        ]  # fmt: skip
        assert {(one.source, one.step, one.as_of) for one in waiting} == {(*KEY.values(), NOON)}
        assert store.mark_delivered([*waiting[:1], *waiting[:1]], sink="log") == 1
        assert store.mark_delivered(waiting, sink="log") == 1
        assert store.mark_delivered(waiting, sink="log") == 0
        assert store.load_alerts(waiting_for="log") == []
        assert store.load_alerts(waiting_for="file") == store.load_alerts() == waiting

    def test_a_report_written_again_says_only_what_is_new(self, store: Store) -> None:
        """What was delivered stays; what was not, and is no longer in the report, goes."""
        store.save_reports([report(change("a"), change("b"))], **KEY)
        store.mark_delivered(store.load_alerts()[:1], sink="log")
        store.save_reports([report(change("a"), change("c"))], **KEY)
        assert [one.key for one in store.load_alerts(waiting_for="log")] == ["c"]
        assert sorted(one.key for one in store.load_alerts()) == ["a", "c"]
        gone = attrs.evolve(store.load_alerts()[0], key="b")
        assert store.mark_delivered([gone], sink="log") == 0

    def test_the_last_word_reaches_everybody(self, store: Store) -> None:
        """What got worse is said again, and what is said again after its opposite; what stays is not repeated."""

        def said(*changes: dict[str, str]) -> list[tuple[str, str, str]]:
            store.save_reports([report(*changes)], **KEY)
            waiting = store.load_alerts(waiting_for="log")
            store.mark_delivered(waiting, sink="log")
            return [(one.key, one.action, one.severity) for one in waiting]

        assert said(change("a"), change("b")) == [("a", "trigger", "high"), ("b", "trigger", "high")]
        assert said(change("a"), change("b")) == []
        assert said(change("a", severity="critical"), change("b")) == [("a", "trigger", "critical")]
        assert said(change("a", "resolve")) == [("a", "resolve", "high")]
        assert said(change("a")) == [("a", "trigger", "high")]

    def test_a_job_is_done_once_its_report_is_stored(self, store: Store, clock: SetClock) -> None:
        """Report, alerts and the end of the job: all of them or none."""
        reports = [report(change("a"), time=time) for time in (NOON, NOON + HOUR)]
        begun = store.begin_job("daily", NOON)
        with pytest.raises(LookupError, match="did not begin"):
            store.save_reports(reports, **KEY, job="daily")
        assert (store.load_reports(), store.load_alerts(), store.load_jobs()) == ([], [], [begun])
        store.begin_job("daily", NOON + HOUR)
        clock.forward()
        store.save_reports(reports, **KEY, job="daily")
        assert len(store.load_reports()) == len(store.load_alerts()) == 2
        assert [(one.status, one.ended_at) for one in store.load_jobs()] == [("done", clock.time)] * 2

    @pytest.mark.parametrize(
        "wrong", ["x", {"key": "a"}, change("a", severity="odd"), change("a", action="odd"), change("\x00")]
    )
    def test_alerts_that_are_none_store_no_report(self, store: Store, wrong: object) -> None:
        with pytest.raises(ValueError, match="alert"):
            store.save_reports([report(wrong)], **KEY)
        assert store.load_reports() == []

    @pytest.mark.parametrize("wrong", [None, {}, "a"])
    def test_what_is_said_is_a_list(self, store: Store, wrong: object) -> None:
        with pytest.raises(ValueError, match="alert_changes"):
            store.save_reports([report() | {"alert_changes": wrong}], **KEY)
        assert store.load_reports() == []
