"""Reports for the tests of pages, one of them with names that attack whoever shows them."""

from __future__ import annotations

from datetime import UTC, datetime

import attrs
import numpy as np
import pandas as pd

import tonsurance_risk as tr


def prices(names=("USDC", "DAI", "GHO"), periods=130):
    """Daily prices: the first coin falls for three days, the last one has prices for ten days only."""
    index = pd.date_range("2024-01-01", periods=periods, freq="D", tz="UTC")
    values = np.exp(np.random.default_rng(0).normal(0, 1e-3, (periods, len(names))))
    frame = pd.DataFrame(values, index=index, columns=list(names))
    frame.iloc[100:103, 0] = (0.93, 0.91, 0.95)
    frame.iloc[:-10, -1] = np.nan
    return frame


def report_of(frame=None, vault=None, **options):
    """Assess a small book."""
    frame = prices() if frame is None else frame
    book = vault or tr.Vault(
        1e6, [tr.Policy("a", "USDC", 5e5, 0.95, 0.7), tr.Policy("b", "DAI", 3e5, 0.95, 0.7)], btc_value=1e4
    )
    given = {"as_of": frame.index[-1], "step": "1d", "generated_at": datetime(2024, 6, 1, tzinfo=UTC), "n": 2_000}
    return tr.assess(frame, book, **(given | options))


HOSTILE = {
    "script": "<script>window.hacked = 1</script>",
    "attribute": "\" onload='window.hacked = 1' x=\"",
    "template": "{{ 7 * 7 }}{% raw %}",
    "formula": r"$\frac{1}{0}$ 5 $ and 6 $",
    "override": "\u202egnp.CDSU\u2066",
    "arabic": "\u0627\u0644\u062f\u0648\u0644\u0627\u0631",
    "control": "a\x00b\x1b[2K\ud800",
    "blank": "\u00a0 \u3000x",
    "long": "x" * 10_000,
    "words": "very long " * 1_000,
    "entity": "&lt;b&gt; ]]> <!--",
    "cjk": "\u4e2d\u6587 \U0001f4a5",
}
LONE = "\ud800"


def hostile_report():
    """A report in which everything that has a name has a hostile one."""
    names = [name.replace(LONE, "") for name in HOSTILE.values()]
    frame = prices(["USDC", *names], 130)
    frame.iloc[:, -1] = frame.iloc[:, 1] * 0.999
    for column in range(len(frame.columns)):
        frame.iloc[110:113, column] = 0.9
    vault = tr.Vault(
        1e7, [tr.Policy(f"P {name}", name, 1e4, 0.95, 0.7) for name in ["USDC", *names]], assets=[tr.Asset(name) for name in names]
    )  # fmt: skip
    scenarios = [tr.Scenario(name, 1.0 / len(names), prices={names[0]: 0.5}) for name in names]
    other = [attrs.evolve(scenarios[0], weight=9.0), *scenarios[1:]]
    earlier = report_of(frame, vault, scenarios=other)
    before = tr.EarlierRun(as_of=earlier.as_of, run_inputs_sha256="0" * 64, sample=earlier.sample, published={})
    return report_of(frame, vault, scenarios=scenarios, source=names[0], before=before)
