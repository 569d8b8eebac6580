"""Slow, readable second implementations of measures of dependence. They share no code with the library."""

from __future__ import annotations

import itertools
import math


def plain_pearson(x, y, weights=None):
    """Return the correlation of complete series as its definition says."""
    weights = [1.0] * len(x) if weights is None else weights
    total = math.fsum(weights)
    mean_x = math.fsum(w * a for w, a in zip(weights, x, strict=True)) / total
    mean_y = math.fsum(w * b for w, b in zip(weights, y, strict=True)) / total
    xy = math.fsum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weights, x, y, strict=True))
    xx = math.fsum(w * (a - mean_x) ** 2 for w, a in zip(weights, x, strict=True))
    yy = math.fsum(w * (b - mean_y) ** 2 for w, b in zip(weights, y, strict=True))
    return xy / math.sqrt(xx * yy)


def plain_ledoit_wolf(rows):
    """Return the shrinkage intensity of Ledoit and Wolf (2004), section 3.3, of standardised rows, target I.

    m = <S, I> = 1, d^2 = ||S - m I||^2, b_bar^2 = (1 / n^2) sum_k ||x_k x_k' - S||^2, b^2 = min(b_bar^2, d^2);
    all norms divided by p. The intensity is b^2 / d^2.
    """
    n, p = len(rows), len(rows[0])
    columns = list(zip(*rows, strict=True))
    means = [math.fsum(column) / n for column in columns]
    sizes = [
        math.sqrt(math.fsum((x - m) ** 2 for x in column) / n) for column, m in zip(columns, means, strict=True)
    ]
    z = [[(row[j] - means[j]) / sizes[j] for j in range(p)] for row in rows]
    s = [[math.fsum(row[i] * row[j] for row in z) / n for j in range(p)] for i in range(p)]
    cells = list(itertools.product(range(p), repeat=2))
    d = math.fsum((s[i][j] - (i == j)) ** 2 for i, j in cells) / p
    b = math.fsum(math.fsum((row[i] * row[j] - s[i][j]) ** 2 for i, j in cells) / p for row in z) / n**2
    return min(b, d) / d


def plain_influential_days(days, x, y, k):
    """Return the k days whose removal, one after the other, moves the correlation furthest towards zero."""
    sign = 1.0 if plain_pearson(x, y) > 0.0 else -1.0
    removed = []
    for _ in range(k):
        candidates = {}
        for day in dict.fromkeys(days):
            kept = [i for i in range(len(days)) if days[i] not in (*removed, day)]
            if day not in removed and len(kept) > 1:
                candidates[day] = sign * plain_pearson([x[i] for i in kept], [y[i] for i in kept])
        removed.append(min(candidates, key=candidates.get))
    kept = [i for i in range(len(days)) if days[i] not in removed]
    return removed, plain_pearson([x[i] for i in kept], [y[i] for i in kept])


def plain_tail(x, y, share):
    """Return how many rows lie in both lower tails, and the mean of how many lie in one; ties count upwards."""
    n = len(x)
    tails = [
        {i for i in range(n) if sum(other <= series[i] for other in series) <= share * n + 1e-9}
        for series in (x, y)
    ]
    return len(tails[0] & tails[1]), (len(tails[0]) + len(tails[1])) / 2.0


def plain_co_depegs(own, theirs, window):
    """Return (episodes, together, opposite) of two coins, from (first hour, hours, direction) of their events.

    Hour by hour: which coin is off its peg on which side. An episode holds the events of both that start within
    `window` hours of its first; it counts where one of its events begins in an hour in which the other coin is off.
    """
    off = [{} for _ in range(2)]
    for coin, events in enumerate((own, theirs)):
        for start, hours, direction in events:
            for hour in range(start, start + hours):
                off[coin].setdefault(hour, set()).add(direction)
    starts = sorted([(start, direction, 0) for start, _, direction in own] + [(s, d, 1) for s, _, d in theirs])
    episodes: list[list] = []
    for event in starts:
        if episodes and event[0] - episodes[-1][0][0] <= window:
            episodes[-1].append(event)
        else:
            episodes.append([event])
    together = opposite = 0
    for episode in episodes:
        met = {(direction, other) for hour, direction, coin in episode for other in off[1 - coin].get(hour, ())}
        together += any(direction == other for direction, other in met)
        opposite += any(direction != other for direction, other in met)
    return len(episodes), together, opposite


def plain_benjamini_hochberg(p_values, level):
    """Return which hypotheses the step-up procedure of Benjamini and Hochberg (1995) rejects."""
    m = len(p_values)
    order = sorted(range(m), key=p_values.__getitem__)
    largest = max((k for k in range(1, m + 1) if p_values[order[k - 1]] <= k * level / m), default=0)
    rejected = set(order[:largest])
    return [i in rejected for i in range(m)]
