"""The work of one task: drawing a run of blocks, and what each simulation of them loses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from tonsurance_risk.core.execution import n_threads
from tonsurance_risk.core.loss_model import LossModel, Segments
from tonsurance_risk.core.payoff import Workspace
from tonsurance_risk.core.sampling import BLOCK, REPLICATES, Draw, Plan, Sampler, block_sizes
from tonsurance_risk.core.tally import Part, Tally
from tonsurance_risk.values import FloatArray

MOST_BLOCKS = 4
"""Blocks of the largest task: half a million simulations, 10 MB."""
TASKS = 8
"""Tasks that a run is cut into while they are smaller than that."""

Blocks = tuple[tuple[int, int], ...]
"""(block, size) of consecutive blocks."""


@attrs.frozen(eq=False)
class Job:
    """A model and the plan by which it is drawn."""

    model: LossModel
    plan: Plan


@attrs.frozen(eq=False)
class DrawnBlock:
    """One block: its draws, the losses in runs of one stratum, shape (size,) [USD], and memory to work in."""

    block: int
    draw: Draw
    losses: FloatArray
    work: Workspace


def tasks(n: int, start: int = 0) -> list[Blocks]:
    """Return the blocks of the simulations from `start` up to n, in tasks that depend on nothing else."""
    blocks = tuple(block_sizes(n, start))
    size = min(max(len(blocks) // TASKS, 1), MOST_BLOCKS)
    return [blocks[first : first + size] for first in range(0, len(blocks), size)]


def drawn(job: Job, blocks: Blocks, *, keep_positions: bool = False) -> Iterator[DrawnBlock]:
    """Yield the blocks; arrays of a block are overwritten by the next one.

    Positions are those of before only with `keep_positions`.
    """
    largest = max(size for _, size in blocks)
    needed = Workspace.FLOATS * largest + Sampler.floats(job.plan, largest)
    with _scratch(needed) as memory:
        work = Workspace.of(largest, memory)
        sampler = Sampler(job.plan, memory[Workspace.FLOATS * largest :])
        for block, size in blocks:
            draw = sampler.draw(block, size)
            positions = draw.positions.copy() if keep_positions else draw.positions
            losses = job.model.losses(draw.positions, draw.segments, work)
            if keep_positions:
                draw = attrs.evolve(draw, positions=positions)
            yield DrawnBlock(block, draw, losses, work)


@attrs.frozen(eq=False)
class Task:
    """Blocks to simulate, above which losses, and in one process where to write them.

    Parameters
    ----------
    blocks : tuple of (int, int)
    cut : float, optional
        Return only the losses above it; None: all.
    out : tuple of (losses, stratum, weights), optional
        Arrays of the whole sample; None: new arrays.
    """

    blocks: Blocks
    cut: float | None = None
    out: tuple[FloatArray, NDArray[np.int32], FloatArray | None] | None = None


def simulated(job: Job, task: Task) -> Part:
    """Return the losses of blocks; with a cut only those above it, and where they come from."""
    blocks, cut = task.blocks, task.cut
    total, first = sum(size for _, size in blocks), blocks[0][0] * BLOCK
    if task.out is None:
        losses, stratum = np.empty(total), np.empty(total, dtype=np.int32)
        weights = None if job.plan.tilt is None else np.empty(total)
    else:
        here = slice(first, first + total)
        losses, stratum = task.out[0][here], task.out[1][here]
        weights = None if task.out[2] is None else task.out[2][here]
    tallies, kept = [], 0
    numbered = cut is not None and job.plan.sampling in ("antithetic", "sobol")
    index = np.empty(len(losses), dtype=np.int64) if numbered else None
    for block in drawn(job, blocks):
        draw, size = block.draw, len(block.losses)
        here = slice(kept, kept + size)
        _place(losses[here], block.losses, draw)
        strata = Segments(draw.stratum, draw.segments.lengths)
        if draw.order is None:
            strata.fill(stratum[here], np.arange(len(job.plan.cumulated)))
        else:
            _place(stratum[here], np.repeat(strata.scenario, strata.lengths), draw)
        if weights is not None and draw.weights is not None:
            _place(weights[here], draw.weights, draw)
        sobol = job.plan.sampling == "sobol"
        replicates = losses[here].reshape(-1, REPLICATES).sum(axis=0) if sobol else np.zeros(REPLICATES)
        tallies.append(Tally.of(draw, block.losses, job.plan.unit, replicates, block.work.high))
        if cut is None:
            kept += size
            continue
        # Those above the cut move up to where this block began, and the next block is written after them.
        above = np.flatnonzero(losses[here] > cut)
        to = slice(kept, kept + len(above))
        if index is not None:
            index[to] = above + block.block * BLOCK
        for column in (losses, stratum) if weights is None else (losses, stratum, weights):
            column[to] = column[here][above]
        kept += len(above)
    if cut is None:
        return Part(first, losses, stratum, weights, None, tuple(tallies))
    return Part(
        first,
        losses[:kept].copy(),
        stratum[:kept].astype(np.min_scalar_type(len(job.plan.cumulated))),
        None if weights is None else weights[:kept].copy(),
        None if index is None else index[:kept].copy(),
        tuple(tallies),
    )


_MEMORY: deque[FloatArray] = deque(maxlen=n_threads())
"""Memory for the next tasks, one a thread: touching it for the first time costs as much as a block."""


@contextmanager
def _scratch(size: int) -> Iterator[FloatArray]:
    """Lend memory for that many numbers, of any contents."""
    try:
        memory = _MEMORY.pop()
    except IndexError:
        memory = np.empty(0)
    if len(memory) < size:
        memory = np.empty(size)
    try:
        yield memory
    finally:
        _MEMORY.append(memory)


def _place(out: Any, in_runs: Any, draw: Draw) -> None:
    """Write values of simulations that stand in runs to where they belong."""
    if draw.order is None:
        out[:] = in_runs
    else:
        out[draw.order] = in_runs
