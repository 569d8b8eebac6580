"""The work of one task: drawing a run of blocks, and what each simulation of them loses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import numpy as np

from tonsurance_risk.core.loss_model import LossModel
from tonsurance_risk.core.payoff import Workspace
from tonsurance_risk.core.sampling import BLOCK, REPLICATES, Draw, Plan, Sampler, block_sizes
from tonsurance_risk.core.tally import Part, Tally
from tonsurance_risk.model import FloatArray, Policy

MOST_BLOCKS = 64
"""Blocks of the largest task: a million simulations."""
TASKS = 16
"""Tasks that a run is cut into while they are smaller than that."""

Blocks = tuple[tuple[int, int], ...]
"""(block, size) of consecutive blocks."""


@attrs.frozen(eq=False)
class Job:
    """A model and the plan by which it is drawn; and perhaps a policy on one of its coins, beside its book."""

    model: LossModel
    plan: Plan
    added: Policy | None = None
    added_coin: int = -1


@attrs.frozen(eq=False)
class DrawnBlock:
    """One block: its draws, and the losses in runs of one stratum, shape (size,) [USD]."""

    block: int
    draw: Draw
    losses: FloatArray


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
    sampler, work = Sampler(job.plan, largest), Workspace.of(largest)
    for block, size in blocks:
        draw = sampler.draw(block, size)
        extra = None
        if job.added is not None:
            extra = job.added.payout(job.model.ratios(job.added_coin, draw.positions, draw.segments))
        positions = draw.positions.copy() if keep_positions else draw.positions
        losses = job.model.losses(draw.positions, draw.segments, work, extra)
        if keep_positions:
            draw = attrs.evolve(draw, positions=positions)
        yield DrawnBlock(block, draw, losses)


def simulated(job: Job, blocks: Blocks, cut: float | None) -> Part:
    """Return the losses of blocks; with a cut only those above it, and where they come from."""
    total = sum(size for _, size in blocks)
    kept: list[tuple[Any, ...]] = []
    tallies = []
    weighted = job.plan.tilt is not None
    losses, stratum = np.empty(total), np.empty(total, dtype=np.int32)
    weights = np.empty(total) if weighted else None
    smallest = np.min_scalar_type(len(job.plan.cumulated))
    at = 0
    for drawn_block in drawn(job, blocks):
        draw, size = drawn_block.draw, len(drawn_block.losses)
        if cut is not None:
            at = 0
        here = slice(at, at + size)
        _place(losses[here], drawn_block.losses, draw)
        _place(stratum[here], np.repeat(draw.stratum.astype(np.int32), draw.segments.lengths), draw)
        if weights is not None and draw.weights is not None:
            _place(weights[here], draw.weights, draw)
        sobol = job.plan.sampling == "sobol"
        replicates = losses[here].reshape(-1, REPLICATES).sum(axis=0) if sobol else np.zeros(REPLICATES)
        tallies.append(Tally.of(draw, drawn_block.losses, job.plan.unit, replicates))
        at += size
        if cut is not None:
            above = np.flatnonzero(losses[here] > cut)
            kept.append(
                (
                    losses[above],
                    stratum[above].astype(smallest),
                    None if weights is None else weights[above],
                    above + drawn_block.block * BLOCK,
                )
            )
    first = blocks[0][0] * BLOCK
    if cut is None:
        return Part(first, losses, stratum, weights, None, tuple(tallies))
    columns = [None if column[0] is None else np.concatenate(column) for column in zip(*kept, strict=True)]
    return Part(first, *columns, tuple(tallies))


def _place(out: Any, in_runs: Any, draw: Draw) -> None:
    """Write values of simulations that stand in runs to where they belong."""
    if draw.order is None:
        out[:] = in_runs
    else:
        out[draw.order] = in_runs
