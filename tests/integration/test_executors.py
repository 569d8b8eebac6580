"""The same bits wherever blocks are computed, and no result when a worker is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import tonsurance_risk as tr
from tonsurance_risk.core.sampling import BLOCK
from tonsurance_risk.errors import WorkerLostError

KINDS = ["plain", "stratified", "antithetic", "sobol", "importance"]
VAULT = tr.Vault(
    1e7,
    [tr.Policy("a", "USDC", 1e6, 0.98, 0.9), tr.Policy("b", "DAI", 5e5, 0.97, 0.6)],
    btc_value=1e5,
)
VOLATILITY = {"USDC": 0.02, "DAI": 0.03, "BTC": 0.1}


def simulate(**options):
    """Simulate enough blocks for every worker."""
    arguments = {"volatility": VOLATILITY, "n": 5 * BLOCK + 18, **options}
    return tr.simulate_losses(VAULT, tr.builtin_scenarios(), **arguments)


@pytest.fixture(scope="module")
def processes():
    """Two worker processes."""
    with ProcessPoolExecutor(2) as pool:
        yield pool


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.fault("F127")
def test_threads_change_nothing(kind, workers):
    """1, 2 and 7 of them, and those of the library itself."""
    with ThreadPoolExecutor(workers) as pool:
        assert simulate(sampling=kind) == simulate(sampling=kind, executor=pool)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keep", ["all", "tail"])
def test_processes_change_nothing(kind, keep, processes):
    """Nor what is kept; weights and measures included."""
    here, there = (simulate(sampling=kind, keep=keep, executor=pool) for pool in (None, processes))

    assert here == there
    assert here.to_dict() == there.to_dict()


def test_precision_and_marginal_risk_go_through_the_executor(processes):
    """The same stop, the same effect."""
    here, there = (simulate(n=None, precision=0.01, executor=pool) for pool in (None, processes))
    assert here == there
    policy = tr.Policy("new", "USDC", 1e4, 0.97, 0.5)
    effects = [tr.marginal_risk(here, policy, executor=pool).after for pool in (None, processes)]
    assert effects[0] == effects[1]


@pytest.mark.slow
def test_dask_workers_change_nothing():
    """Two worker processes of a local cluster, every kind."""
    distributed = pytest.importorskip("distributed", reason="the extra distributed is not installed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        for kind in KINDS:
            assert simulate(sampling=kind) == simulate(sampling=kind, executor=executor)
        assert simulate(keep="tail") == simulate(keep="tail", executor=executor)


class LosingPool(ProcessPoolExecutor):
    """A pool whose third task ends its worker, as a machine that is switched off does."""

    submitted = 0

    def submit(self, function, /, *arguments, **options):
        """Submit the task, or the end."""
        self.submitted += 1
        if self.submitted == 3:
            return super().submit(os._exit, 1)
        return super().submit(function, *arguments, **options)


@pytest.mark.parametrize("options", [{}, {"keep": "tail"}, {"n": None, "precision": 1e-6}])
def test_a_lost_worker_is_an_error(options):
    """Named, with the task; no losses come back."""
    with LosingPool(2) as pool, pytest.raises(WorkerLostError, match="did not return task"):
        simulate(executor=pool, **options)


def test_a_closed_executor_is_an_error():
    """As soon as it is asked."""
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    with pytest.raises(WorkerLostError, match="ThreadPoolExecutor"):
        simulate(executor=pool)


def test_no_threads_of_blas_in_a_worker():
    """One thread computes: the time of the process is that of its only Python thread.

    A second thread of BLAS spins while it waits, and would add its own time: by half or more.
    """
    code = """
import time, tonsurance_risk as tr
coins = [asset.symbol for asset in tr.STABLECOINS]
vault = tr.Vault(1e7, [tr.Policy(c, c, 1e5, .98, .6) for c in coins], btc_value=1e5)
from concurrent.futures import Executor, Future
class Here(Executor):
    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future
run = lambda n: tr.simulate_losses(vault, tr.builtin_scenarios(), volatility=dict.fromkeys([*coins, "BTC"], .01), n=n, executor=Here())
run(1000)
process, thread = time.process_time(), time.thread_time()
run(2_000_000)
process, thread = time.process_time() - process, time.thread_time() - thread
print(process / thread)
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )

    assert float(done.stdout) < 1.1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_a_hundred_million_in_bounded_memory():
    """keep="tail": the process never holds 500 MB. Peak resident memory as the system counts it."""
    code = """
import re, tonsurance_risk as tr
vault = tr.Vault(1e7, [tr.Policy("a", "USDC", 1e6, .98, .6)], btc_value=1e5)
sample = tr.simulate_losses(vault, tr.builtin_scenarios(), volatility={"USDC": .02, "BTC": .1}, n=100_000_000, keep="tail")
print(sample.n, sample.value_at_risk(.9).value, sample.expected_shortfall(.99).value)
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) // 1024)
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    megabytes = int(done.stdout.splitlines()[-1])

    print(f"\n100,000,000 simulations, keep='tail': {megabytes} MB, {time.monotonic() - started:.0f} s")
    assert megabytes < 500


def test_losses_are_read_only_and_not_shared(processes):
    """Wherever they come from."""
    for pool in (None, processes):
        sample = simulate(n=100, executor=pool)
        assert not sample.losses.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            np.add(sample.losses, 1.0, out=sample.losses)
