"""Reference statistics: every algorithm as plain float64 loops from its definition."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np


def moments(values: Sequence[float]) -> tuple[int, float, float]:
    """Count, mean and M2 in two passes, with exactly rounded sums."""
    values = [float(value) for value in values]
    mean = math.fsum(values) / len(values)
    return len(values), mean, math.fsum((value - mean) ** 2 for value in values)


def welch(target: Sequence[float], baseline: Sequence[float]) -> tuple[float, float]:
    """Welch's t and degrees of freedom; constant samples as in docs/reference/definitions.md."""
    n_a, mean_a, m2_a = moments(target)
    n_b, mean_b, m2_b = moments(baseline)
    error_a, error_b = m2_a / (n_a - 1) / n_a, m2_b / (n_b - 1) / n_b
    if error_a + error_b == 0:
        difference = mean_a - mean_b
        return (math.copysign(math.inf, difference) if difference else 0.0), math.nan
    t = (mean_a - mean_b) / math.sqrt(error_a + error_b)
    df = (error_a + error_b) ** 2 / (error_a**2 / (n_a - 1) + error_b**2 / (n_b - 1))
    return t, df


def against_rest(groups: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    """Welch's t of every group against all others pooled, for one unit."""
    tests = []
    for k, group in enumerate(groups):
        rest = [value for j, other in enumerate(groups) if j != k for value in other]
        tests.append(welch(group, rest))
    return tests


def against_each(groups: Sequence[Sequence[float]]) -> list[float]:
    """Smallest Welch's t of every group against each other group, for one unit."""
    return [
        min(welch(group, other)[0] for j, other in enumerate(groups) if j != k)
        for k, group in enumerate(groups)
    ]


def weighted(weights: Sequence[float], groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Welch's t and degrees of freedom of a weighted sum of group means, for one unit."""
    found = [moments(group) for group in groups]
    effect = math.fsum(w * mean for w, (_, mean, _) in zip(weights, found, strict=True))
    errors = [w**2 * m2 / (n - 1) / n for w, (n, _, m2) in zip(weights, found, strict=True)]
    freedom = math.fsum(e**2 / (n - 1) for e, (n, _, _) in zip(errors, found, strict=True))
    return effect / math.sqrt(math.fsum(errors)), math.fsum(errors) ** 2 / freedom


def glm(weights: Sequence[float], groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """t and degrees of freedom of a weighted sum of group means, one variance, for one unit."""
    found = [moments(group) for group in groups]
    freedom = sum(n for n, _, _ in found) - len(found)
    variance = math.fsum(m2 for _, _, m2 in found) / freedom
    effect = math.fsum(w * mean for w, (_, mean, _) in zip(weights, found, strict=True))
    scale = math.fsum(w**2 / n for w, (n, _, _) in zip(weights, found, strict=True))
    return effect / math.sqrt(variance * scale), freedom


def selectivity_index(means: Sequence[float]) -> list[float]:
    """CSI of every category, for one unit."""
    indices = []
    for k, mean in enumerate(means):
        others = math.fsum(m for j, m in enumerate(means) if j != k) / (len(means) - 1)
        size = abs(mean) + abs(others)
        indices.append(0.0 if size == 0 else (mean - others) / size)
    return indices


def lifetime_sparseness(responses: Sequence[float]) -> float:
    """Lifetime sparseness of one unit; negative responses count as 0."""
    rates = [max(response, 0.0) for response in responses]
    n = len(rates)
    square = sum(rate**2 for rate in rates) / n
    return (1 - (sum(rates) / n) ** 2 / square) / (1 - 1 / n) if square else 0.0


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Benjamini-Hochberg q: the smallest level at which the step-up procedure rejects p."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    q = [0.0] * len(p)
    smallest = 1.0
    for rank in range(len(p), 0, -1):
        smallest = min(smallest, p[order[rank - 1]] * len(p) / rank)
        q[order[rank - 1]] = smallest
    return q


def replicated(folds: Sequence[Sequence[bool]]) -> float:
    """Share of the units selected on one fold that another selects; NaN if none is selected.

    Averaged over the other folds, then over the folds that select any unit.
    """
    shares = []
    for i, own in enumerate(folds):
        units = [u for u, chosen in enumerate(own) if chosen]
        others = [other for j, other in enumerate(folds) if j != i]
        if units and others:
            again = [sum(bool(other[u]) for u in units) / len(units) for other in others]
            shares.append(math.fsum(again) / len(again))
    return math.fsum(shares) / len(shares) if shares else math.nan


def onset(at: Sequence[float], above: Sequence[bool]) -> tuple[float | None, float | None]:
    """The first position that is above, and the first from which all are; None if none is."""
    first = lasting = None
    for i, position in enumerate(at):
        if above[i] and first is None:
            first = position
        if lasting is None and all(above[i:]):
            lasting = position
    return first, lasting


def m2_longdouble(x: np.ndarray) -> np.ndarray:
    """Two-pass M2 per column in extended precision."""
    wide = x.astype(np.longdouble)
    return ((wide - wide.mean(0)) ** 2).sum(0)


def area_under_curve(target: Sequence[float], baseline: Sequence[float]) -> float:
    """Share of pairs in which the target's value is larger; ties count half."""
    pairs = [(a > b) + (a == b) / 2 for a in target for b in baseline]
    return math.fsum(pairs) / len(pairs)


def normalised_entropy(counts: Sequence[float]) -> float:
    """Entropy of the shares of locations, divided by its maximum."""
    total = math.fsum(counts)
    shares = [count / total for count in counts if count]
    return -math.fsum(share * math.log(share) for share in shares) / math.log(len(counts))


def gini(counts: Sequence[float]) -> float:
    """Gini coefficient: half the mean difference of all pairs, divided by the mean."""
    places = len(counts)
    differences = math.fsum(abs(a - b) for a in counts for b in counts)
    return differences / (2 * places * math.fsum(counts))


def morans_i(values: np.ndarray, known: np.ndarray, corners: bool) -> float:
    """Moran's I over all pairs of known locations of a map; neighbours have weight 1."""
    places = [(y, x) for y, x in np.ndindex(*values.shape) if known[y, x]]
    mean = math.fsum(values[place] for place in places) / len(places)
    z = {place: values[place] - mean for place in places}
    weights, products = 0, []
    for y, x in places:
        for v, u in places:
            down, right = abs(y - v), abs(x - u)
            if (down + right == 1) or (corners and down == right == 1):
                weights += 1
                products.append(z[y, x] * z[v, u])
    square = math.fsum(value**2 for value in z.values())
    return len(places) / weights * math.fsum(products) / square


def pearson(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson correlation of two patterns."""
    mean_a, mean_b = math.fsum(a) / len(a), math.fsum(b) / len(b)
    pairs = list(zip(a, b, strict=True))
    together = math.fsum((x - mean_a) * (y - mean_b) for x, y in pairs)
    sizes = (math.fsum((x - mean_a) ** 2 for x in a), math.fsum((y - mean_b) ** 2 for y in b))
    return together / math.sqrt(sizes[0] * sizes[1])


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; ties share their mean rank."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def correlation_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """1 - Pearson's r."""
    return 1 - pearson([float(a) for a in one], [float(b) for b in other])


def euclidean_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Euclidean distance."""
    return math.sqrt(math.fsum((float(a) - float(b)) ** 2 for a, b in zip(one, other, strict=True)))


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b: concordant less discordant pairs, adjusted for ties."""

    def sign(value: float) -> int:
        return (value > 0) - (value < 0)

    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    orders = [(sign(a[i] - a[j]), sign(b[i] - b[j])) for i, j in pairs]
    apart = [sum(order[side] != 0 for order in orders) for side in (0, 1)]
    return sum(one * other for one, other in orders) / math.sqrt(apart[0] * apart[1])


def linear_cka(a: np.ndarray, b: np.ndarray) -> float:
    """Linear CKA of patterns ``[category, unit]``, in the unit form of Kornblith et al."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    together = sum((a[:, i] @ b[:, j]) ** 2 for i in range(a.shape[1]) for j in range(b.shape[1]))
    sizes = [
        math.sqrt(sum((x[:, i] @ x[:, j]) ** 2 for i, j in np.ndindex(x.shape[1], x.shape[1])))
        for x in (a, b)
    ]
    return together / (sizes[0] * sizes[1])


def unbiased_hsic(k: np.ndarray, other: np.ndarray) -> float:
    """Unbiased HSIC of kernels ``[stimulus, stimulus]`` as the mean over distinct quadruples.

    Song et al. (2012), by its definition as a U-statistic.
    """
    terms = [
        k[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q])
        for i, j, q, r in itertools.permutations(range(len(k)), 4)
    ]
    return math.fsum(terms) / len(terms)


def u_centred(kernel: np.ndarray) -> np.ndarray:
    """A kernel without its diagonal, less its rows' sums (Szekely & Rizzo 2014, Ann. Statist. 42).

    The inner product of two, divided by n (n - 3), is :func:`unbiased_hsic`.
    """
    n = len(kernel)
    rows = [math.fsum(kernel[i, j] for j in range(n) if j != i) / (n - 2) for i in range(n)]
    total = math.fsum(rows) / (n - 1)
    found = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        found[i, j] = kernel[i, j] - rows[i] - rows[j] + total
    return found


def unbiased_cka(a: np.ndarray, b: np.ndarray) -> float:
    """CKA of patterns ``[stimulus, unit]`` by unbiased HSIC, with linear kernels."""
    one, other = (u_centred(x @ x.T) for x in (a, b))
    return float((one * other).sum() / math.sqrt((one**2).sum() * (other**2).sum()))


def top(values: Sequence[float], size: int) -> set[int]:
    """Indices of the ``size`` largest values, the first of ties; NaN is left out."""
    known = [i for i in range(len(values)) if not math.isnan(values[i])]
    return set(sorted(known, key=lambda i: (-values[i], i))[:size])


def expected_in_both(living: Sequence[int], first: Sequence[int], other: Sequence[int]) -> float:
    """Mean number of units in two sets drawn at random at every place, by all its probabilities."""
    terms = []
    for total, own, its in zip(living, first, other, strict=True):
        for both in range(min(own, its) + 1):
            if its - both <= total - own:
                ways = math.comb(own, both) * math.comb(total - own, its - both)
                terms.append(both * ways / math.comb(total, its))
    return math.fsum(terms)


def auc_normal(target: Sequence[float], baseline: Sequence[float]) -> float:
    """Probability that a normal response to the target exceeds one to the baseline."""
    (n_a, mean_a, m2_a), (n_b, mean_b, m2_b) = moments(target), moments(baseline)
    spread = math.sqrt(m2_a / (n_a - 1) + m2_b / (n_b - 1))
    return NormalDist(0, spread).cdf(mean_a - mean_b)


def d_prime(target: Sequence[float], baseline: Sequence[float]) -> float:
    """d' of one unit."""
    (n_a, mean_a, m2_a), (n_b, mean_b, m2_b) = moments(target), moments(baseline)
    return (mean_a - mean_b) / math.sqrt((m2_a / (n_a - 1) + m2_b / (n_b - 1)) / 2)


def matched_numbers(selective: Sequence[int], available: Sequence[int]) -> list[int]:
    """Controls of every bin: those missing in one come from the nearest bins with some to spare."""
    numbers = [min(need, there) for need, there in zip(selective, available, strict=True)]
    for short in reversed(range(len(numbers))):
        missing = selective[short] - min(selective[short], available[short])
        for apart in range(1, len(numbers)):
            for other in (short - apart, short + apart):
                while (
                    missing
                    and 0 <= other < len(numbers)
                    and numbers[other] < available[other]
                    and numbers[other] >= min(selective[other], available[other])
                ):
                    numbers[other] += 1
                    missing -= 1
    return numbers


def rank_bins(values: Sequence[float], bins: int) -> list[int]:
    """Bin of every value, of bins that hold equal numbers in the order of the values."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    bin_of = [0] * len(values)
    for rank, i in enumerate(order):
        bin_of[i] = rank * bins // len(values)
    return bin_of


def bootstrap(values: Sequence[float], picks: Sequence[Sequence[int]]) -> list[float]:
    """The mean of the values that every draw picks."""
    return [math.fsum(values[i] for i in own) / len(own) for own in picks]


def middle_95(values: Sequence[float]) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile, linear between values."""
    ranked = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ranked) - 1)
        below = min(math.floor(place), len(ranked) - 2)
        return ranked[below] + (place - below) * (ranked[below + 1] - ranked[below])

    return at(0.025), at(0.975)


def softmax(scores: Sequence[float]) -> list[float]:
    """Exponentials of scores, divided by their sum."""
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / math.fsum(powers) for power in powers]


def noise_ceiling(subjects: Sequence[Sequence[float]], ranked: bool) -> tuple[float, float]:
    """Mean correlation of each subject with the mean of the others, and of all.

    For Spearman's the ranks are averaged and ranked again; for Pearson's z-scores are averaged.
    """

    def scores(values: Sequence[float]) -> list[float]:
        n, mean, m2 = moments(values)
        return [(value - mean) / math.sqrt(m2 / n) for value in values]

    scaled = [ranks(one) if ranked else scores(one) for one in subjects]

    def against(number: int, members: Sequence[Sequence[float]]) -> float:
        mean = [math.fsum(values) / len(members) for values in zip(*members, strict=True)]
        return pearson(scaled[number], ranks(mean) if ranked else mean)

    numbers = range(len(subjects))
    low = [against(i, [one for j, one in enumerate(scaled) if j != i]) for i in numbers]
    high = [against(i, scaled) for i in numbers]
    return math.fsum(low) / len(low), math.fsum(high) / len(high)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's r of the ranks."""
    return pearson(ranks(a), ranks(b))


def held_out_best(
    subjects: Sequence[Sequence[float]],
    layers: dict[str, Sequence[float]],
    folds: Sequence[int],
) -> tuple[float, list[str]]:
    """Mean correlation with the layer that is best for other subjects on other stimuli.

    Also the layer chosen for every subject and fold; a single subject is not left out.
    """

    def r(one: Sequence[float], other: Sequence[float], items: Sequence[int]) -> float:
        return pearson([one[i] for i in items], [other[i] for i in items])

    found, chosen = [], []
    for fold in sorted(set(folds)):
        own = [i for i, its in enumerate(folds) if its == fold]
        others = [i for i, its in enumerate(folds) if its != fold]
        for number, subject in enumerate(subjects):
            rest = [one for i, one in enumerate(subjects) if i != number] or [subject]
            means = {name: math.fsum(r(one, values, others) for one in rest) / len(rest)
                     for name, values in layers.items()}  # fmt: skip
            best = max(means, key=lambda name: means[name])
            chosen.append(best)
            found.append(r(subject, layers[best], own))
    return math.fsum(found) / len(found), chosen
