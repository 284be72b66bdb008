"""DoReFa number by number, in Python's own float64, straight from the published equations."""

import math


def round_half_even(x: float) -> int:
    """Python's `round` is half to even by definition."""
    return round(x)


def weight(values: list[float], bits: int) -> list[float]:
    """2 q(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1; one bit: mean|w| sign(w)."""
    if bits == 1:
        mean = math.fsum(abs(value) for value in values) / len(values)
        return [mean if value >= 0 else -mean for value in values]
    n = 2**bits - 1
    maximum = max(abs(math.tanh(value)) for value in values)
    return [2 * round_half_even(n * (math.tanh(v) / (2 * maximum) + 0.5)) / n - 1 for v in values]


def smooth_weight(values: list[float]) -> list[float]:
    """The same with the rounding left out: what the straight-through estimator differentiates."""
    maximum = max(abs(math.tanh(value)) for value in values)
    return [math.tanh(value) / maximum for value in values]


def weight_gradient(values: list[float], upstream: list[float], step: float = 1e-6) -> list[float]:
    """Central differences of sum(upstream * smooth_weight)."""

    def total(index: int, by: float) -> float:
        moved = [value + by * (i == index) for i, value in enumerate(values)]
        return math.fsum(u * s for u, s in zip(upstream, smooth_weight(moved), strict=True))

    return [(total(i, step) - total(i, -step)) / (2 * step) for i in range(len(values))]


def activation(value: float, bits: int) -> float:
    """q(clip(a, 0, 1))."""
    n = 2**bits - 1
    return round_half_even(n * min(max(value, 0.0), 1.0)) / n


def activation_gradient(value: float) -> float:
    """1 within [0, 1], bounds included."""
    return 1.0 if 0.0 <= value <= 1.0 else 0.0


def gradient(rows: list[list[float]], noise: list[list[float]], bits: int) -> list[list[float]]:
    """2m (q(clip(g/(2m) + 1/2 + N)) - 1/2), m the maximum of a row, N = noise / (2^bits - 1)."""
    n, found = 2**bits - 1, []
    for row, drawn in zip(rows, noise, strict=True):
        m = max(abs(value) for value in row)
        if m == 0:
            found.append([0.0] * len(row))
            continue
        unit = [min(max(g / (2 * m) + 0.5 + u / n, 0.0), 1.0) for g, u in zip(row, drawn, strict=True)]
        found.append([2 * m * (round_half_even(n * one) / n - 0.5) for one in unit])
    return found


def splitmix(state: int) -> tuple[int, int]:
    """One step of SplitMix64: the new state and the output."""
    mask = (1 << 64) - 1
    state = (state + 0x9E3779B97F4A7C15) & mask
    z = state
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return state, z ^ (z >> 31)


def lsq(x: float, step: float, low: int, high: int) -> float:
    """s round(clip(x/s))."""
    return step * round_half_even(min(max(x / step, low), high))


def lsq_slopes(x: float, step: float, low: int, high: int) -> tuple[float, float]:
    """dx_q/dx and dx_q/ds of the LSQ paper's equation 3."""
    scaled = x / step
    if scaled <= low:
        return 0.0, float(low)
    if scaled >= high:
        return 0.0, float(high)
    return 1.0, round_half_even(scaled) - scaled


def pact(x: float, clip: float, bits: int) -> float:
    """round(clip(a, 0, alpha) n/alpha) alpha/n."""
    n = 2**bits - 1
    return round_half_even(min(max(x, 0.0), clip) * n / clip) * clip / n
