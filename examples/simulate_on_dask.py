"""Simulate on the workers of a Dask cluster, here two processes of this machine, and compare with no cluster.

Usage: python examples/simulate_on_dask.py [SIMULATIONS]

Needs the extra `distributed`. On a real cluster `Client("tcp://SCHEDULER:8786")` is all that changes.
"""

from __future__ import annotations

import sys

from distributed import Client, LocalCluster

import tonsurance_risk as tr


def main(n: int = 2_000_000) -> None:
    """Simulate there and here."""
    book = {
        "vault": tr.sample_vault(),
        "scenarios": tr.builtin_scenarios(),
        "volatility": {"USDC": 0.002, "BTC": 0.1},
        "n": n,
        "keep": "tail",  # workers send only what measures from level 0.9 on need
    }
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
        client.get_executor() as executor,
    ):
        there = tr.simulate_losses(**book, executor=executor)
    here = tr.simulate_losses(**book)
    print(f"VaR 99.9 of {there.n:,} simulations: {there.value_at_risk(0.999).value:,.0f}")
    print("the same bits without a cluster:", there == here)


if __name__ == "__main__":  # worker processes import this file
    main(*(int(argument) for argument in sys.argv[1:]))
