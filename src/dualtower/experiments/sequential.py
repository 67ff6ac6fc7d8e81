"""Bounds on |z| for looking at a running experiment more than once.

A planned number of looks takes O'Brien and Fleming's bounds (Biometrics 1979; Jennison and
Turnbull, Group Sequential Methods, 2000, chapters 2 and 19); watching without a plan takes the
asymptotic confidence sequence of Waudby-Smith et al., arXiv 2103.06476.
"""

from functools import lru_cache
from math import exp, log, log1p, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

_NODES = 240
"""Of the Gauss-Legendre quadrature between the bounds at each look: the constants of up to 30 looks
are then right to 8 decimals."""


@lru_cache
def obrien_fleming_constant(looks: int, alpha: float = 0.05) -> float:
    """C such that |z_k| > C·sqrt(K / k) at any of K equally spaced looks has probability α.

    It is α when nothing differs; found by integrating over the looks one after another.

    Args:
        looks: K, at least 1.
        alpha: two-sided false positive rate of all looks together, in (0, 1).
    """
    widest = float(norm.isf(alpha / 2 / looks)) + 1.0
    return float(
        brentq(lambda constant: crossing(looks, constant) - alpha, 0.01, widest, xtol=1e-12)
    )


def obrien_fleming_bound(look: int, looks: int, alpha: float = 0.05) -> float | None:
    """The bound on |z| at one look; None after the planned ones, where nothing is left to spend.

    Args:
        look: k, from 1.
        looks: K, as many as were planned.
        alpha: as `obrien_fleming_constant`.
    """
    if look > looks:
        return None
    return obrien_fleming_constant(looks, alpha) * sqrt(looks / look)


def crossing(looks: int, constant: float, drift: float = 0.0) -> float:
    """The probability that |z_k| > constant·sqrt(K / k) at one of K equally spaced looks.

    With S_k = z_k·sqrt(k) the looks are a random walk with steps from Normal(drift / sqrt(K), 1),
    and the bounds are one band, |S_k| ≤ constant·sqrt(K). The density of the walks that never left
    it is carried from look to look by quadrature.

    Args:
        looks: K.
        constant: C.
        drift: the mean of z at the last look, if all are taken.
    """
    edge = constant * sqrt(looks)
    step = drift / sqrt(looks)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    places, weights = nodes * edge, weights * edge
    inside = norm.pdf(places, loc=step)
    move = norm.pdf(places[:, None] - places[None, :], loc=step) * weights[None, :]
    for _ in range(looks - 1):
        inside = move @ inside
    return float(1.0 - weights @ inside)


def obrien_fleming_inflation(looks: int, alpha: float, power: float) -> float:
    """How many times the queries of a test with one look the planned looks need for equal power.

    Args:
        looks: K.
        alpha: two-sided false positive rate.
        power: wanted probability to find the difference, above alpha and below 1.
    """
    constant = obrien_fleming_constant(looks, alpha)

    def lacking(single: float, bound: float, count: int) -> float:
        return crossing(count, bound, single) - power

    single_bound = float(norm.isf(alpha / 2))
    most = single_bound + float(norm.ppf(power)) + 5.0
    one = brentq(lacking, 0.0, most, args=(single_bound, 1))
    many = brentq(lacking, 0.0, most, args=(constant, looks))
    return float((many / one) ** 2)


def always_valid_bound(queries: int, expected: int, alpha: float = 0.05) -> float:
    """The bound on |z| that holds at all times together (Eq. 9, as a multiple of the error).

    Its clock is the number of queries. Where all of them are seen in the first days and then return
    (a fixed panel), it stands still while z moves on, so that nothing is proven of it there. At the
    default alpha it is never below 3.03: with daily looks, each day with as much news as another,
    z crosses that though nothing differs with probability 1.1% in 7 days, 2.1% in 30 and 4.4% in
    365. A larger alpha has a lower bound and is crossed more often.

    Args:
        queries: t, of both arms together, so far.
        expected: where the sequence is tightest; fixed before the start.
        alpha: false positive rate over all times.
    """
    information = queries * _rho_squared(expected, alpha)
    odds = (information + 1) / information
    return sqrt(2 * odds * (0.5 * log1p(information) - log(alpha)))


def always_valid_p(z: float, queries: int, expected: int, alpha: float = 0.05) -> float:
    """The p-value that may be looked at at any time (Eq. 155); ≤ alpha where the bound is crossed.

    Args:
        z: difference over its standard error.
        queries: as `always_valid_bound`.
        expected: as `always_valid_bound`.
        alpha: the rate at which ρ is chosen.
    """
    information = queries * _rho_squared(expected, alpha)
    exponent = 0.5 * log1p(information) - 0.5 * z * z * information / (information + 1)
    return exp(min(exponent, 0.0))


def _rho_squared(expected: int, alpha: float) -> float:
    """ρ² for which the sequence is tightest at `expected` queries (Eq. 161)."""
    return (-2 * log(alpha) + log(-2 * log(alpha) + 1)) / expected
