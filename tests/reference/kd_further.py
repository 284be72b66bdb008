"""The further distillation losses as loops over the equations of their papers, in float64, one scalar at a time.

Written from the papers' equations apart from the package. `s` and `t` are lists of maps (n, c, h, w), `p` the
parameters of a loss by name. Gradients come from autograd through the loops.
"""

import math

import torch
from kd_layers import batch_norm, conv, direction, enlarge, length, pool, same_size, transposed_conv
from torch import Tensor
from torch.nn.functional import leaky_relu


def pooled(x: Tensor) -> list[list[Tensor]]:
    """Per image the mean of each channel."""
    return [[channel.sum() / channel.numel() for channel in image] for image in x]


def at(s: list[Tensor], t: list[Tensor], power: float = 2.0, literal: bool = False) -> Tensor:
    """Zagoruyko & Komodakis eq. 2: attention maps at length 1; mean square, or literally the norm per image."""

    def attention(image: Tensor) -> list[Tensor]:
        channels, h, w = image.shape
        cells = [(i, j) for i in range(h) for j in range(w)]
        return direction([sum(abs(image[c, i, j]) ** power for c in range(channels)) for i, j in cells])

    total = torch.zeros(())
    for a, b in zip(s, t, strict=True):
        a, b = same_size(a, b)
        for image_s, image_t in zip(a, b, strict=True):
            pairs = zip(attention(image_s), attention(image_t), strict=True)
            gaps = [x - y for x, y in pairs]
            term = length(gaps) if literal else sum(g * g for g in gaps) / len(gaps)
            total = total + term / len(a)
    return total


def regressed(x: Tensor, size: tuple[int, int], p: dict[str, Tensor], relu: bool) -> Tensor:
    """FitNets' convolutional regressor with its three ways to change the size."""
    h, w = x.shape[2:]
    weight = p["conv.weight"]
    if (h, w) == (2 * size[0], 2 * size[1]):
        x = conv(x, weight, stride=2, padding=1)
    elif (2 * h, 2 * w) == size:
        x = transposed_conv(x, weight, stride=2, padding=1)
    elif h >= size[0]:
        x = conv(x, weight)
    else:
        x = conv(enlarge(x, *size), weight)
    x = batch_norm(x, p["norm.weight"], p["norm.bias"])
    return x * (x > 0) if relu else x


def fitnet(s: list[Tensor], t: list[Tensor], p: dict[str, Tensor], layer: int) -> Tensor:
    """Romero et al. eq. 3 as a mean."""
    predicted = regressed(s[layer], tuple(t[layer].shape[2:]), part(p, "regressor."), relu=True)
    values = zip(predicted.flatten(), t[layer].flatten(), strict=True)
    return sum((a - b) ** 2 for a, b in values) / t[layer].numel()


def part(p: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The parameters below `prefix`."""
    return {name.removeprefix(prefix): value for name, value in p.items() if name.startswith(prefix)}


def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Inner product."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def sp(s: Tensor, t: Tensor) -> Tensor:
    """Tung & Mori eq. 1 to 3."""

    def similarity(x: Tensor) -> list[list[Tensor]]:
        rows = [list(image.flatten()) for image in x]
        return [direction([dot(a, b) for b in rows]) for a in rows]

    g, k, n = similarity(s), similarity(t), len(s)
    return sum((g[i][j] - k[i][j]) ** 2 for i in range(n) for j in range(n)) / n**2


def embedded(x: Tensor, p: dict[str, Tensor]) -> list[list[Tensor]]:
    """A linear layer on the pooled map."""
    return [[dot(list(row), f) + b for row, b in zip(p["weight"], p["bias"], strict=True)] for f in pooled(x)]


def cc(s: Tensor, t: Tensor, p: dict[str, Tensor], gamma: float, order: int) -> Tensor:
    """Peng et al. eq. 6 with the Gaussian kernel's Taylor series."""
    n = len(s)

    def correlation(rows: list[list[Tensor]]) -> list[list[Tensor]]:
        f = [direction(row) for row in rows]
        return [
            [
                math.exp(-2 * gamma)
                * sum((2 * gamma) ** k / math.factorial(k) * dot(f[i], f[j]) ** k for k in range(order + 1))
                for j in range(n)
            ]
            for i in range(n)
        ]

    a = correlation(embedded(s, part(p, "student_embedding.")))
    b = correlation(embedded(t, part(p, "teacher_embedding.")))
    return sum((a[i][j] - b[i][j]) ** 2 for i in range(n) for j in range(n)) / n**2


def cc_neighbors(s: Tensor, t: Tensor, p: dict[str, Tensor]) -> Tensor:
    """The products of the embeddings' distances of adjacent images."""
    a = embedded(s, part(p, "student_embedding."))
    b = embedded(t, part(p, "teacher_embedding."))
    gap = [[abs(x - y) for x, y in zip(u, v, strict=True)] for u, v in zip(a, b, strict=True)]
    return sum(dot(gap[i], gap[i + 1]) for i in range(len(s) - 1)) / (len(s) - 1)


def pkt(s: Tensor, t: Tensor) -> Tensor:
    """Passalis & Tefas: KL divergence of neighbor probabilities, cosine kernel, as the authors sum it."""
    n = len(s)

    def probabilities(x: Tensor) -> list[list[Tensor]]:
        f = [direction(row) for row in pooled(x)]
        kernel = [[(dot(f[i], f[j]) + 1) / 2 for j in range(n)] for i in range(n)]
        return [[k / sum(row) for k in row] for row in kernel]

    a, b = probabilities(s), probabilities(t)
    entries = [(a[i][j], b[i][j]) for i in range(n) for j in range(n)]
    return sum(q * torch.log((q + 1e-7) / (r + 1e-7)) for r, q in entries) / n**2


def vid(s: list[Tensor], t: list[Tensor], p: dict[str, Tensor], eps: float) -> Tensor:
    """Ahn et al. eq. 5 without the constant, a mean over entries, summed over layers."""
    total = torch.zeros(())
    for layer, (a, b) in enumerate(zip(s, t, strict=True)):
        a, b = same_size(a, b)
        q = part(p, f"means.{layer}.")
        hidden = conv(a, q["0.weight"])
        hidden = conv(hidden * (hidden > 0), q["2.weight"])
        mean = conv(hidden * (hidden > 0), q["4.weight"])
        for c in range(b.shape[1]):
            variance = torch.log(1 + torch.exp(p[f"alphas.{layer}"][c])) + eps
            for m, target in zip(mean[:, c].flatten(), b[:, c].flatten(), strict=True):
                log_density = -((target - m) ** 2) / (2 * variance) - torch.log(torch.sqrt(variance))
                total = total - log_density / b.numel()
    return total


def nst(s: list[Tensor], t: list[Tensor]) -> Tensor:
    """Huang & Wang: squared MMD of normalized channels with the kernel (x . y)^2, mean over images."""
    total = torch.zeros(())
    for a, b in zip(s, t, strict=True):
        a, b = same_size(a, b)
        for image_s, image_t in zip(a, b, strict=True):
            f = [direction(list(channel.flatten())) for channel in image_s]
            g = [direction(list(channel.flatten())) for channel in image_t]

            def mean(x: list, y: list) -> Tensor:
                return sum(dot(u, v) ** 2 for u in x for v in y) / (len(x) * len(y))

            total = total + (mean(f, f) + mean(g, g) - 2 * mean(f, g)) / len(a)
    return total


def ft(s: Tensor, t: Tensor, p: dict[str, Tensor], form: str) -> Tensor:
    """Kim et al. eq. 4 with p = 1 as a mean; three convolutions on either side."""
    factors, q = s, part(p, "translator.")
    for index in (0, 3, 6):
        factors = conv(factors, q[f"{index}.weight"], padding=1)
        factors = leaky_relu(batch_norm(factors, q[f"{index + 1}.weight"], q[f"{index + 1}.bias"]), 0.1)
    for index in range(3):
        t = conv(t, p[f"encoder_weight_{index}"], p[f"encoder_bias_{index}"], padding=1)
        t = leaky_relu(t, 0.1)
    factors, t = same_size(factors, t)
    total = torch.zeros(())
    for a, b in zip(factors, t, strict=True):
        if form == "spatial":
            a, b = (a**2).sum(0) / len(a), (b**2).sum(0) / len(b)
        u, v = direction(list(a.flatten())), direction(list(b.flatten()))
        total = total + sum(abs(x - y) for x, y in zip(u, v, strict=True)) / len(u) / len(s)
    return total


def ab(s: list[Tensor], t: list[Tensor], p: dict[str, Tensor], margin: float) -> Tensor:
    """Heo et al. 2019 (AAAI): beyond the margin on the side where the teacher is; 3e-3, layers by powers of 2."""
    total = torch.zeros(())
    for layer, (a, b) in enumerate(zip(s, t, strict=True), 1):
        a = regressed(a, tuple(b.shape[2:]), part(p, f"connectors.{layer - 1}."), relu=False)
        for x, y in zip(a.flatten(), b.flatten(), strict=True):
            gap = margin - x if y > 0 else margin + x
            if gap > 0:
                total = total + gap**2 * 2.0 ** (layer - len(s)) / len(a)
    return 3e-3 * total


def fsp(s: list[Tensor], t: list[Tensor]) -> Tensor:
    """Yim et al. eq. 1 and 2 as a mean over entries."""

    def flow(lower: Tensor, upper: Tensor) -> list[Tensor]:
        a, b = same_size(lower, upper)
        h, w = a.shape[2:]
        cells = [(i, j) for i in range(h) for j in range(w)]
        return [
            sum(a[n, c, i, j] * b[n, d, i, j] for i, j in cells) / (h * w)
            for n in range(len(a))
            for c in range(a.shape[1])
            for d in range(b.shape[1])
        ]

    total = torch.zeros(())
    for layer in range(len(s) - 1):
        g, k = flow(s[layer], s[layer + 1]), flow(t[layer], t[layer + 1])
        total = total + sum((x - y) ** 2 for x, y in zip(g, k, strict=True)) / len(g)
    return total


def softmax(z: list[Tensor]) -> list[Tensor]:
    """From the definition."""
    exponentials = [torch.exp(v) for v in z]
    return [e / sum(exponentials) for e in exponentials]


def divergence(p: list[Tensor], q: list[Tensor]) -> Tensor:
    """KL(p || q)."""
    return sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True))


def dkd(s: Tensor, t: Tensor, labels: list[int], alpha: float, beta: float, temperature: float) -> Tensor:
    """Zhao et al. eq. 7, times T^2."""
    total = torch.zeros(())
    for z_s, z_t, label in zip(s, t, labels, strict=True):
        p, q = softmax(list(z_t / temperature)), softmax(list(z_s / temperature))
        target = divergence([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        rest = [k for k in range(len(p)) if k != label]
        others = divergence(
            softmax([z_t[k] / temperature for k in rest]), softmax([z_s[k] / temperature for k in rest])
        )
        total = total + temperature**2 * (alpha * target + beta * others) / len(s)
    return total


def dist(s: Tensor, t: Tensor, beta: float, gamma: float, tau: float) -> Tensor:
    """Huang et al.: 1 - Pearson's correlation over classes and over images."""

    def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
        a, b = [x - sum(a) / len(a) for x in a], [x - sum(b) / len(b) for x in b]
        return 1 - dot(a, b) / (length(a) * length(b))

    y_s, y_t = [softmax(list(z / tau)) for z in s], [softmax(list(z / tau)) for z in t]
    n, k = s.shape
    inter = sum(distance(y_s[i], y_t[i]) for i in range(n)) / n
    intra = sum(distance([row[j] for row in y_s], [row[j] for row in y_t]) for j in range(k)) / k
    return beta * inter + gamma * intra


def logit_std(s: Tensor, t: Tensor, temperature: float, unbiased: bool) -> Tensor:
    """Sun et al. algorithm 1, times T^2."""

    def standardized(z: list[Tensor]) -> list[Tensor]:
        mean = sum(z) / len(z)
        deviation = torch.sqrt(sum((v - mean) ** 2 for v in z) / (len(z) - unbiased))
        return [(v - mean) / deviation / temperature for v in z]

    rows = zip(s, t, strict=True)
    return (
        temperature**2
        * sum(divergence(softmax(standardized(list(b))), softmax(standardized(list(a)))) for a, b in rows)
        / len(s)
    )


def context(a: Tensor, b: Tensor) -> Tensor:
    """Chen et al.'s hierarchical context loss of one level."""
    terms, weights, weight = [((a - b) ** 2).sum() / a.numel()], [1.0], 1.0
    for size in (4, 2, 1):
        if size < min(a.shape[2:]):
            x, y = pool(a, size, size), pool(b, size, size)
            weight /= 2
            weights.append(weight)
            terms.append(weight * ((x - y) ** 2).sum() / x.numel())
    return sum(terms) / sum(weights)


def reviewkd(s: list[Tensor], t: list[Tensor], p: dict[str, Tensor]) -> Tensor:
    """Chen et al.: fusion from the deepest level on, context loss of every level."""

    def levels(maps: list[Tensor]) -> list[Tensor]:
        return [pool(maps[-1].clamp_min(0), 1, 1), *maps[::-1]]  # the average lies behind the ReLU

    total, deeper = torch.zeros(()), None
    for index, (x, target) in enumerate(zip(levels(s), levels(t), strict=True)):
        q = part(p, f"fusions.{index}.")
        x = batch_norm(conv(x, q["enter.0.weight"]), q["enter.1.weight"], q["enter.1.bias"])
        if deeper is not None:
            deeper = enlarge(deeper, *x.shape[2:])
            score = conv(torch.cat((x, deeper), 1), q["attention.weight"], q["attention.bias"])
            share = 1 / (1 + torch.exp(-score))
            x = share[:, 0:1] * x + share[:, 1:2] * deeper
        deeper = enlarge(x, *target.shape[2:])
        output = conv(deeper, q["leave.0.weight"], padding=1)
        total = total + context(batch_norm(output, q["leave.1.weight"], q["leave.1.bias"]), target)
    return total


def ofd(s: list[Tensor], t: list[Tensor], p: dict[str, Tensor], margins: list[list[float]]) -> Tensor:
    """Heo et al. 2019 (ICCV): margin ReLU and partial L2 distance, layers by powers of 2."""
    total = torch.zeros(())
    for layer, (a, b) in enumerate(zip(s, t, strict=True), 1):
        q = part(p, f"connectors.{layer - 1}.")
        a = batch_norm(conv(a, q["0.weight"]), q["1.weight"], q["1.bias"])
        a, b = same_size(a, b)
        for c, margin in enumerate(margins[layer - 1]):
            for x, y in zip(a[:, c].flatten(), b[:, c].flatten(), strict=True):
                target = max(y, torch.tensor(margin, dtype=y.dtype))
                if not (x <= target <= 0):
                    total = total + (x - target) ** 2 * 2.0 ** (layer - len(s)) / len(a)
    return total
