"""One event a line, a run id in each, and no secret."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from tonsurance_risk.logs import configure_logging, run_named

CANARY = 'canary"\\0123'
HOSTILE = f"answer:\r\n2024-01-01 INFO all is well\x1b[2K\x1b[1A\u2028\u202e\x00 {CANARY}"
log = logging.getLogger("tonsurance_risk.sources.example")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give the root logger back to pytest."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(*, as_json: bool, level: str = "INFO") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(as_json=as_json, run_id="run-1", secrets=[CANARY, ""], stream=stream, level=level)
    return stream


def test_a_json_line() -> None:
    stream = configured(as_json=True)
    log.warning("%s gave %d rows", "USDC", 7, extra={"asset": "USDC", "share": 0.5, "gap": float("nan")})

    event = json.loads(stream.getvalue(), parse_constant=pytest.fail)
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "WARNING",
        "logger": "tonsurance_risk.sources.example",
        "run_id": "run-1",
        "message": "USDC gave 7 rows",
        "asset": "USDC",
        "share": 0.5,
        "gap": "NaN",
    }


def test_a_text_line() -> None:
    stream = configured(as_json=False)
    log.warning("%s gave %d rows", "USDC", 7, extra={"asset": "USDC"})

    _, rest = stream.getvalue().split(" ", 1)
    assert "WARNING tonsurance_risk.sources.example [run-1] USDC gave 7 rows asset=USDC\n" == rest


@pytest.mark.fault("F144")
@pytest.mark.parametrize("as_json", [True, False])
def test_text_of_a_provider_is_one_event_on_one_line(as_json: bool) -> None:
    """In the message, its arguments, what came with it, and in exceptions."""
    stream = configured(as_json=as_json)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        log.exception("failed: %s", HOSTILE, extra={"body": HOSTILE, "more": [HOSTILE]})
    log.info("next")

    first, second = stream.getvalue().splitlines()
    assert first.isprintable()
    assert "ValueError" in first
    assert "next" in second
    if as_json:
        assert f"failed: {HOSTILE}".replace(CANARY, "***") == json.loads(first)["message"]


@pytest.mark.fault("F113")
@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_are_replaced_everywhere(as_json: bool) -> None:
    """Message, arguments, extras of any type, exceptions and their causes, URLs."""
    url = "postgresql://risk:hunter2@db.example/risk"
    stream = configured(as_json=as_json)
    try:
        try:
            raise KeyError(CANARY)
        except KeyError as error:
            raise ValueError(f"at {url}") from error
    except ValueError:
        log.exception("key " + CANARY + " %r", {"key": CANARY}, extra={"url": url, "o": {1: {CANARY}}, CANARY: 1})

    written = stream.getvalue()
    assert "***" in written
    assert "hunter2" not in written
    assert "0123" not in written
    assert 1 == len(written.splitlines())


def test_other_handlers_see_the_record_as_it_was(caplog) -> None:
    """Formatting does not change it."""
    stream = configured(as_json=True)
    logging.getLogger().addHandler(caplog.handler)
    log.info("key %s", CANARY)

    assert f"key {CANARY}" == caplog.records[0].getMessage()
    assert "***" in stream.getvalue()


def test_the_run_id_of_a_block_and_of_other_threads() -> None:
    stream = configured(as_json=True)
    with run_named("run-2"):
        log.info("inside")
        thread = threading.Thread(target=log.info, args=("elsewhere",))
        thread.start()
        thread.join()
    log.info("after")

    ids = [json.loads(line)["run_id"] for line in stream.getvalue().splitlines()]
    assert ["run-2", "run-1", "run-1"] == ids


def test_levels_and_configuring_again() -> None:
    """Nothing is written twice, nor to a stream of before."""
    before = configured(as_json=True)
    stream = configured(as_json=False, level="ERROR")
    log.warning("no")
    log.error("yes")

    assert "" == before.getvalue()
    assert 1 == len(stream.getvalue().splitlines())


@pytest.mark.fault("F105")
def test_a_stream_that_is_closed_stops_nothing(capfd) -> None:
    stream = configured(as_json=True)
    stream.close()
    log.error("nobody reads this")

    assert "ValueError: I/O operation on closed file" in capfd.readouterr().err
