"""What all policies on one asset pay together: one piecewise-linear function of its price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np

from tonsurance_risk.assets import canonical
from tonsurance_risk.model import FloatArray, IntArray, Policy, Vault, read_only


@attrs.frozen
class PayoutFunction:
    """The sum of the payouts of many policies, non-increasing and piecewise linear in the peg ratio.

    Parameters
    ----------
    knots : ndarray of shape (n_knots,)
        All triggers and floors, increasing [units of the peg reference].
    values : ndarray of shape (n_knots,)
        Payout at each knot [USD].
    slopes : ndarray of shape (n_knots,)
        Payout lost for each unit that the price rises, between the knot before and this one; >= 0, and 0 for
        the first [USD].
    """

    knots: FloatArray = attrs.field(converter=read_only)
    values: FloatArray = attrs.field(converter=read_only)
    slopes: FloatArray = attrs.field(converter=read_only)

    @classmethod
    def of(cls, policies: Sequence[Policy]) -> PayoutFunction:
        """Build the function of at least one policy, in O(n log n).

        Sums of non-negative terms alone: nothing cancels, however steep a policy is, and the result agrees
        with the plain sum over policies to rounding.
        """
        coverage = np.array([policy.coverage for policy in policies], dtype=np.float64)
        trigger = np.array([policy.trigger_price for policy in policies])
        floor = np.array([policy.floor_price for policy in policies])
        knots = np.unique(np.concatenate([trigger, floor]))
        slopes = np.zeros(len(knots))
        slopes[1:] = _sum_over_intervals(
            np.searchsorted(knots, floor),
            np.searchsorted(knots, trigger),
            coverage / (trigger - floor),
            len(knots) - 1,
        )
        falls = slopes[1:] * np.diff(knots)
        return cls(knots, np.append(np.cumsum(falls[::-1])[::-1], 0.0), slopes)

    def __call__(self, ratio: Any) -> FloatArray:
        """Return the payout at each ratio [USD], of the shape of `ratio`.

        It is computed from the knot above, ``values[k] + slopes[k] * (knots[k] - ratio)``: a sum of
        non-negative terms, exact at and above the highest trigger.
        """
        ratio = np.asarray(ratio, dtype=np.float64)
        above = np.searchsorted(self.knots, ratio)
        paid = above < len(self.knots)
        above = np.minimum(above, len(self.knots) - 1)
        payout = self.slopes[above] * (self.knots[above] - ratio)
        payout += self.values[above]
        return np.where(paid, payout, 0.0)


def payout_functions(vault: Vault) -> dict[str, PayoutFunction]:
    """Return the payout function of every covered asset, by symbol, sorted."""
    by_asset: dict[str, list[Policy]] = {}
    for policy in vault.policies:
        by_asset.setdefault(canonical(policy.asset), []).append(policy)
    return {asset: PayoutFunction.of(by_asset[asset]) for asset in sorted(by_asset)}


def _sum_over_intervals(first: IntArray, end: IntArray, amounts: FloatArray, n: int) -> FloatArray:
    """Return for each of n cells the sum of the amounts whose [first, end) holds it.

    A segment tree filled level by level: an interval is cut into O(log n) aligned blocks, and blocks hand
    their sums down. A difference array would do it in one pass, but subtracts large numbers.
    """
    size = 1 << max(n - 1, 0).bit_length()
    tree = np.zeros(2 * size)
    low, high = first + size, end + size
    while True:
        inside = low < high
        if not inside.any():
            break
        take = inside & (low % 2 == 1)
        tree += np.bincount(low[take], amounts[take], minlength=2 * size)
        low = low + take
        take = inside & (high % 2 == 1)
        tree += np.bincount(high[take] - 1, amounts[take], minlength=2 * size)
        low, high = low // 2, high // 2
    level = 1
    while level < size:
        parents = tree[level : 2 * level]
        tree[2 * level : 4 * level] += np.repeat(parents, 2)
        level *= 2
    return tree[size : size + n]
