"""Backtest statistics by plain loops, straight from the definitions, and the published tables that they must equal."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

KUPIEC_NOT_REJECTED = {
    # Kupiec (1995), table 3 (T = 255, 510, 1000), as reprinted by Jorion, "Value at Risk", table of the model
    # verification test (there with T = 252): a < N < b is not rejected at 5 %.
    0.01: {255: (None, 7), 510: (1, 11), 1000: (4, 17)},
    0.025: {255: (2, 12), 510: (6, 21), 1000: (15, 36)},
    0.05: {255: (6, 21), 510: (16, 36), 1000: (37, 65)},
    0.075: {255: (11, 28), 510: (27, 51), 1000: (59, 92)},
    0.10: {255: (16, 36), 510: (38, 65), 1000: (81, 120)},
}

BASEL_TABLE_2 = (
    # Basel Committee (1996), table 2: exceptions in 250 days at 99 %, zone, plus factor, cumulative probability [%].
    (0, "green", 0.00, 8.11),
    (1, "green", 0.00, 28.58),
    (2, "green", 0.00, 54.32),
    (3, "green", 0.00, 75.81),
    (4, "green", 0.00, 89.22),
    (5, "yellow", 0.40, 95.88),
    (6, "yellow", 0.50, 98.63),
    (7, "yellow", 0.65, 99.60),
    (8, "yellow", 0.75, 99.89),
    (9, "yellow", 0.85, 99.97),
    (10, "red", 1.00, 99.99),
)


def plain_log(count, share):
    """Return count ln(share), 0 where the count is."""
    return 0.0 if count == 0 else count * math.log(share)


def plain_kupiec(hits, p):
    """Return twice the log likelihood ratio of the observed share against p."""
    n, x = len(hits), sum(hits)
    likelihood = plain_log(x, x / n) + plain_log(n - x, (n - x) / n)
    return 2.0 * (likelihood - plain_log(x, p) - plain_log(n - x, 1.0 - p))


def plain_independence(hits):
    """Return Christoffersen's ratio, or None where a state has no successor."""
    counts = {(i, j): 0 for i in (0, 1) for j in (0, 1)}
    for before, after in pairwise(hits):
        counts[int(before), int(after)] += 1
    rows = [counts[i, 0] + counts[i, 1] for i in (0, 1)]
    if 0 in rows:
        return None
    chain = sum(plain_log(counts[i, j], counts[i, j] / rows[i]) for i in (0, 1) for j in (0, 1))
    total = sum(rows)
    columns = [counts[0, j] + counts[1, j] for j in (0, 1)]
    return 2.0 * (chain - sum(plain_log(column, column / total) for column in columns))


def plain_binomial(n, p):
    """Return the probabilities of 0 to n exceptions, p a fraction, by exact arithmetic."""
    p = Fraction(p)
    return [float(math.comb(n, k) * p**k * (1 - p) ** (n - k)) for k in range(n + 1)]


def plain_z2(losses, var, shortfall, level):
    """Return Acerbi and Szekely's Z2 of profits and losses, positive = profit, as they write it."""
    total = 0.0
    for loss, quantile, mean in zip(losses, var, shortfall, strict=True):
        profit = -loss
        if profit + quantile < 0.0:
            total += profit / mean
    return total / (len(losses) * (1.0 - level)) + 1.0
