"""Print how fast the simulation engine is, each figure beside its peers in the same run.

Usage: python benchmarks/engine.py [--quick]

The reference job is in reference_job.py. Times are the best of several; on shared machines only the ratios carry
over, and they too when the other processors are idle. JAX is an optional peer: pip install jax jaxlib.
--quick leaves out the hundred million simulations and half of the repetitions.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from measured import Figure, best, best_of_turns
from reference_job import Job, N, reference_job

QUICK = "--quick" in sys.argv
REPETITIONS = 100 if QUICK else 200
N_VARIANCE = 8_192
FACTORS = 15


class Here(Executor):
    """Computes in the calling thread."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """Compute at once."""
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **options))
        return future


def arrays(job: Job) -> dict[str, np.ndarray]:
    """Return the reference job as plain arrays, factors being the coins in the job's order and BTC last."""
    factors = list(job.correlation.columns)
    table = job.vault.to_frame()
    mass = np.array([scenario.probability for scenario in job.scenarios])
    return {
        "shares": mass / mass.sum(),
        "levels": np.array([[s.prices.get(f, 1.0) for f in factors] for s in job.scenarios]),
        "multipliers": np.array([s.volatility_multiplier for s in job.scenarios]),
        "sigma": np.array([job.volatility[f] for f in factors]),
        "correlation": job.correlation.to_numpy(),
        "column": np.array([factors.index(asset) for asset in table["asset"]]),
        "coverage": table["coverage"].to_numpy(),
        "trigger": table["trigger_price"].to_numpy(),
        "floor": table["floor_price"].to_numpy(),
    }


def plain_numpy(job: Job, n: int, chunk: int = 10_000) -> np.ndarray:
    """Simulate as one would: multivariate normals, choice, and a clip over all policies, in chunks."""
    a, rng, losses = arrays(job), np.random.default_rng(0), []
    for _ in range(n // chunk):
        s = rng.choice(len(a["shares"]), size=chunk, p=a["shares"])
        x = rng.multivariate_normal(np.zeros(FACTORS), a["correlation"], size=chunk)
        ratio = a["levels"][s] * np.exp(a["sigma"] * a["multipliers"][s][:, None] * x)
        share = np.clip((a["trigger"] - ratio[:, a["column"]]) / (a["trigger"] - a["floor"]), 0.0, 1.0)
        btc = job.vault.btc_value * (
            np.exp(
                a["sigma"][-1] * a["multipliers"][s] * x[:, -1] - (a["sigma"][-1] * a["multipliers"][s]) ** 2 / 2
            )
            - 1.0
        )
        losses.append(share @ a["coverage"] - btc)
    return np.concatenate(losses)


def jax_simulator(job: Job, chunk: int = 10_000) -> Callable[[int], np.ndarray] | None:
    """Return the same job compiled by JAX for the processor, None where JAX is absent."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    a = arrays(job)
    factor = jnp.asarray(np.linalg.cholesky(a["correlation"]))
    levels, multipliers, sigma = (jnp.asarray(a[name]) for name in ("levels", "multipliers", "sigma"))
    trigger, floor, coverage = (jnp.asarray(a[name]) for name in ("trigger", "floor", "coverage"))
    column, log_shares = jnp.asarray(a["column"]), jnp.log(jnp.asarray(a["shares"]))

    @jax.jit
    def some(key: Any) -> Any:
        first, second = jax.random.split(key)
        s = jax.random.categorical(first, log_shares, shape=(chunk,))
        scale = sigma * multipliers[s][:, None]
        shock = scale * (jax.random.normal(second, (chunk, FACTORS)) @ factor.T)
        ratio = levels[s] * jnp.exp(shock)
        share = jnp.clip((trigger - ratio[:, column]) / (trigger - floor), 0.0, 1.0)
        return share @ coverage - job.vault.btc_value * (jnp.exp(shock[:, -1] - scale[:, -1] ** 2 / 2) - 1.0)

    def simulate(n: int) -> np.ndarray:
        keys = jax.random.split(jax.random.key(0), n // chunk)
        return np.concatenate([np.asarray(some(key)) for key in keys])

    simulate(chunk)
    return simulate


def draw_normals(n: int, chunk: int = 4_000) -> None:
    """Draw 15 float32 normals a simulation in one thread, and nothing else."""
    rng = np.random.Generator(np.random.SFC64(0))
    out = np.empty((chunk, FACTORS), dtype=np.float32)
    for _ in range(n // chunk):
        rng.standard_normal(dtype=np.float32, out=out)


def measure(n: int = N) -> list[Figure]:
    """Simulate the reference job with VaR and expected shortfall at 95 and 99 % and their intervals.

    In one thread, because a ratio of several to one depends on what else the machine does.
    """
    job, here = reference_job(), Here()
    n_plain = max(n // 10, 10_000)
    plain, ours = plain_numpy(job, n_plain), job.sample(n).expected_loss()
    error = math.hypot(plain.std() / math.sqrt(n_plain), ours.standard_error)
    assert abs(plain.mean() - ours.value) < 5 * error, "not the same work"
    simulate = jax_simulator(job)
    times = best_of_turns(
        {"ours": lambda: job.run(n, executor=here), "normals": lambda: draw_normals(n)}, 7 if QUICK else 25
    )
    peers = {"plain numpy": lambda: plain_numpy(job, n_plain)}
    if simulate is not None:
        peers["JAX on the processor"] = lambda: simulate(n_plain)
    aims = {"plain numpy": 50, "JAX on the processor": 15}
    what, seconds = f"reference job, n = {n:,}, one thread", times["ours"]
    return [
        Figure(what, n, "simulations", seconds, "drawing its normals alone", times["normals"]),
        *(
            Figure(what, n, "simulations", seconds, peer, taken * n / n_plain, aim=aims[peer])
            for peer, taken in best_of_turns(peers, 3).items()
        ),
    ]


def show_speed(job: Job) -> float:
    """Print the reference job in one thread beside its peers, and in all; return simulations a second."""
    for figure in measure():
        print(figure)
    times = best_of_turns({"ours": job.run, "normals": lambda: draw_normals(N)}, 7 if QUICK else 25)
    ours, draw = times["ours"], times["normals"]
    print(f"threads of the library: {ours * 1e3:.1f} ms, {N / ours:,.0f} simulations/s")
    print(f"  {ours / draw:6.2f} x the time of drawing the normals in one, {draw * 1e3:.1f} ms (aim: at most 1.5)")
    return N / ours


def show_scaling(job: Job) -> None:
    """Print how time grows with policies and with simulations."""
    books = {n: reference_job(n) for n in (1_000, 100_000)}
    times = dict.fromkeys(books, float("inf"))
    for _ in range(5 if QUICK else 15):
        for n, book in books.items():
            times[n] = min(times[n], best(book.run, 2))
    ratio = times[100_000] / times[1_000]
    print(f"100,000 policies take {ratio:.2f} x the time of 1,000 (aim: at most 1.2)")
    sizes = (10**5, 10**6, 10**7) if QUICK else (10**5, 10**6, 10**7, 10**8)
    for sampling in ("stratified", "sobol"):
        print(f"Time by n, {sampling}")
        for n in sizes:
            keep = "all" if n < 10**8 else "tail"
            repetitions = 9 if n <= 10**6 else 1
            seconds = best(lambda n=n, keep=keep, kind=sampling: job.run(n, keep=keep, sampling=kind), repetitions)
            used = n if sampling == "stratified" else 16 << (n // 16).bit_length()  # rounded up by the library
            print(f"  {used:12,}  {seconds:8.3f} s  {seconds / used * 1e9:6.1f} ns a simulation  (keep={keep!r})")


def show_memory() -> None:
    """Print the largest resident memory of 10^8 simulations with the tail kept, in a process of its own."""
    code = (
        "import re, sys; sys.path.insert(0, sys.argv[1]); from reference_job import reference_job; "
        "reference_job().run(10**8, keep='tail'); "
        "print(int(re.search('VmHWM: *\\t? *([0-9]+)', open('/proc/self/status').read())[1]) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    print(f"10^8 simulations with keep='tail' hold at most {done.stdout.strip()} MB (aim: under 500)")


def show_processes(job: Job) -> None:
    """Print threads against processes at ten million."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        job.sample(100_000, executor=pool)
        processes = best(lambda: job.sample(10**7, executor=pool), 2)
    threads = best(lambda: job.sample(10**7), 2)
    print(f"10^7 simulations: {threads:.2f} s in threads, {processes:.2f} s in {os.cpu_count()} processes")


def show_variance(job: Job, speed: float) -> None:
    """Print the variance of estimates by kind of sampling, and what it makes of the speed."""
    names = ["VaR 95", "VaR 99", "VaR 99.9", "ES 95", "ES 99", "ES 99.9"]
    levels = (0.95, 0.99, 0.999)
    variance, clock = {}, {}
    for kind in ("plain", "stratified", "antithetic", "sobol", "importance"):
        start, values = time.perf_counter(), []
        for seed in range(REPETITIONS):
            sample = job.sample(N_VARIANCE, seed=seed, sampling=kind, executor=Here())
            values.append(
                [sample.value_at_risk(level).value for level in levels]
                + [sample.expected_shortfall(level).value for level in levels]
            )
        variance[kind] = np.var(values, axis=0, ddof=1)
        clock[kind] = (time.perf_counter() - start) / REPETITIONS
    print(f"Variance of plain sampling over that of others, n = {N_VARIANCE:,}, {REPETITIONS} repetitions")
    print("  (aims: importance 25 for VaR 99, 80 for VaR 99.9; sobol 4 for VaR 95)")
    print("  " + " " * 12 + "".join(f"{name:>10}" for name in names))
    for kind, values in variance.items():
        print(f"  {kind:12}" + "".join(f"{ratio:10.1f}" for ratio in variance["plain"] / values))
    print("Effective simulations a second: those of plain sampling for the same error, at the speed of n = 10^6")
    for kind, values in variance.items():
        rate = N / best(lambda kind=kind: job.sample(N, sampling=kind), 2) if kind != "stratified" else speed
        print(
            f"  {kind:12}"
            + "".join(f"{rate * ratio:10.1e}" for ratio in variance["plain"] / values)
            + f"   ({rate:,.0f} simulations/s)"
        )


def main() -> None:
    """Run every benchmark and print its lines."""
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}, numpy {np.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    job = reference_job()
    speed = show_speed(job)
    show_scaling(job)
    show_variance(job, speed)
    show_processes(job)
    if not QUICK:
        show_memory()
    print(f"this process held at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
