"""The change of a measure split by replacing inputs one by one, in every order there is. It shares no code with the library.

L. S. Shapley (1953), doi:10.1515/9781400881970-018, in the form of the mean over all orders [A. F. Shorrocks (2013),
doi:10.1007/s10888-011-9214-z, eq. 8].
"""

from __future__ import annotations

import math
from itertools import permutations


def plain_var(losses, level):
    """Return the smallest loss that at least the level of all losses do not exceed."""
    ranked = sorted(losses)
    return ranked[math.ceil(round(len(ranked) * level, 9)) - 1]


def plain_shortfall(losses, level):
    """Return the mean of the worst 1 - level of the losses, the last of them taken in part."""
    left = round(len(losses) * (1.0 - level), 9)
    whole, total = left, 0.0
    for loss in sorted(losses, reverse=True):
        taken = min(1.0, left)
        total += taken * loss
        left -= taken
        if left <= 0.0:
            break
    return total / whole


def plain_parts(before, after, measure):
    """Return the part of each input in measure(after) - measure(before): its mean effect over all orders.

    `before` and `after` are dicts of inputs with the same keys, `measure` is a function of such a dict.
    """
    known = {}

    def worth(replaced):
        if replaced not in known:
            known[replaced] = measure({key: (after if key in replaced else before)[key] for key in before})
        return known[replaced]

    totals = dict.fromkeys(before, 0.0)
    orders = list(permutations(before))
    for order in orders:
        replaced = frozenset()
        for key in order:
            totals[key] += worth(replaced | {key}) - worth(replaced)
            replaced |= {key}
    return {key: total / len(orders) for key, total in totals.items()}
