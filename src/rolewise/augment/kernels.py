"""Every compiled function: the ops on one image, the random draws, and the single pass that makes a batch.

An image lies in a buffer of four planes (R, G, B, alpha; `4 * h * w` bytes); an op works in place or from one buffer
into another. All arithmetic is Pillow's (`docs/augmentation.md`); no multiply-add may be fused, hence
`fastmath=False`. All compiled functions are in this one file because Numba's disk cache notices changes of the
called function's file alone. `reference.py` says the same in plain NumPy.
"""

from typing import Any

import numpy as np

from rolewise.augment.compiling import compiled

U = np.uint64  # An unsigned index spares the test for negative ones, without which loops vectorize.
F = np.float32
GOLDEN = U(0x9E3779B97F4A7C15)

# What a kernel does; several ops of the table share one. From INVERT to AUTOCONTRAST they make alpha 255.
IDENTITY, AFFINE, CUTOUT, BRIGHTNESS, COLOR, CONTRAST, SHARPNESS = 0, 1, 2, 3, 4, 5, 6
INVERT, POSTERIZE, SOLARIZE, EQUALIZE, AUTOCONTRAST = 7, 8, 9, 10, 11
# How ops are chosen: PBA's walk, uniformly with replacement, as given, or one of the pairs of slots.
WALK, CHOOSE, GIVEN, PAIRS = 0, 1, 2, 3
AS_IS, WINDOW, RESIZED = 0, 1, 2  # which part of a stored image is loaded (see `Head`)
TRIES = 10  # draws of a part of the image before the central one is taken
RATIOS = 1024  # ratios of such a part to choose from
SCALED = 22  # bits behind the point of Pillow's resampling weights
CUTOUT_COLOR = (125, 122, 113)
ONE = 65536  # 1.0 in Pillow's 16.16 fixed point


@compiled
def mixed(z: Any) -> Any:
    """The finalizer of SplitMix64 (Steele et al., 2014): a bijection of 64 bits that scatters."""
    z = (z ^ (z >> U(30))) * U(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> U(27))) * U(0x94D049BB133111EB)
    return z ^ (z >> U(31))


@compiled
def stream(key: Any, image: Any) -> Any:
    """Where the draws of one image start: a hash of the stream's key and the image's id."""
    return mixed(U(key) ^ mixed(U(image) + GOLDEN))


@compiled
def draw(start: Any, index: Any, below: Any) -> Any:
    """Draw number `index` (from 1) of a stream, uniform over 0 .. below - 1 (`below` < 2**32)."""
    bits = mixed(start + U(index) * GOLDEN) >> U(32)
    return np.int64((bits * U(below)) >> U(32))


@compiled
def choose(program: Any, row: Any, start: Any, h: Any, w: Any, order: Any, chosen: Any) -> Any:
    """Writes the ops of one image as rows (slot, sign, x, y) to `chosen` and returns their number."""
    slots = len(program.kernel)
    budget = program.amount
    if program.mode == GIVEN:
        chosen[:budget] = program.given[row]
        return budget
    index = 0
    if program.mode == WALK:
        index += 1
        tenth = draw(start, index, 10)
        budget = 0 if tenth < 2 else (1 if tenth < 5 else 2)
        for s in range(slots):
            order[s] = s
    pair = 0
    if program.mode == PAIRS:
        index += 1
        pair = 2 * draw(start, index, slots // 2)
        slots = 2
    count = 0
    walked = 0
    while count < budget and walked < slots:
        index += 1
        if program.mode == WALK:  # a shuffle (Fisher-Yates), made only as far as it is walked
            other = walked + draw(start, index, slots - walked)
            slot = order[other]
            order[other] = order[walked]
            walked += 1
            index += 1
            if draw(start, index, 10) >= program.chance[slot]:
                continue
        elif program.mode == PAIRS:
            slot = pair + walked
            walked += 1
            if draw(start, index, 10) >= program.chance[slot]:
                continue
        else:
            slot = draw(start, index, slots)
        centered = program.kernel[slot] == CUTOUT
        chosen[count, 0] = slot
        chosen[count, 1] = draw(start, index + 1, 2) if program.signed[slot] else 0
        chosen[count, 2] = draw(start, index + 2, w) if centered else -1
        chosen[count, 3] = draw(start, index + 3, h) if centered else -1
        index += 3
        count += 1
    return count


@compiled
def inside(x: Any, y: Any, h: Any, w: Any) -> Any:
    """Whether a fixed-point position lies on the image."""
    return (x >> 16) >= 0 and (x >> 16) < w and (y >> 16) >= 0 and (y >> 16) < h


@compiled
def affine(a: Any, b: Any, h: Any, w: Any, c: Any) -> None:
    """Nearest-neighbor affine map of planes a to b: per row the interval that lies inside, then no more tests."""
    size = h * w
    for y in range(h):
        xx = c[2] + y * c[1]
        yy = c[5] + y * c[4]
        first = 0
        while first < w and not inside(xx + first * c[0], yy + first * c[3], h, w):
            first += 1
        last = w
        while last > first and not inside(xx + (last - 1) * c[0], yy + (last - 1) * c[3], h, w):
            last -= 1
        row = y * w
        for p in range(4):
            for x in range(first):
                b[U(p * size + row + x)] = 0
            for x in range(last, w):
                b[U(p * size + row + x)] = 0
        if c[0] == ONE and c[3] == 0:  # a row moves as one piece
            source = (yy >> 16) * w + (xx >> 16)
            for p in range(4):
                for x in range(first, last):
                    b[U(p * size + row + x)] = a[U(p * size + source + x)]
        else:
            for x in range(first, last):
                at = ((yy + x * c[3]) >> 16) * w + ((xx + x * c[0]) >> 16)
                b[U(row + x)] = a[U(at)]
                b[U(row + x + size)] = a[U(at + size)]
                b[U(row + x + 2 * size)] = a[U(at + 2 * size)]
                b[U(row + x + 3 * size)] = a[U(at + 3 * size)]


@compiled
def cut(a: Any, h: Any, w: Any, x: Any, y: Any, half: Any) -> None:
    """Paints the square [x - half, x + half) x [y - half, y + half), clipped, with alpha 0."""
    size = h * w
    for row in range(max(0, y - half), min(h, y + half)):
        for at in range(row * w + max(0, x - half), row * w + min(w, x + half)):
            a[U(at)] = CUTOUT_COLOR[0]
            a[U(at + size)] = CUTOUT_COLOR[1]
            a[U(at + 2 * size)] = CUTOUT_COLOR[2]
            a[U(at + 3 * size)] = 0


@compiled
def gray(a: Any, i: Any, size: Any) -> Any:
    """Pillow's luma of pixel i (ITU-R 601-2 in 16 bits)."""
    return (a[U(i)] * 19595 + a[U(i + size)] * 38470 + a[U(i + 2 * size)] * 7471 + 32768) >> 16


@compiled
def blend(d: Any, v: Any, f: Any) -> Any:
    """Pillow's blend of two bytes; for factors within 0..1 the clipping changes nothing."""
    x = F(d) + f * (F(v) - F(d))
    return np.uint8(min(max(x, F(0)), F(255)))


@compiled
def enhance(kind: Any, f: Any, a: Any, spare: Any, h: Any, w: Any) -> None:
    """Brightness, Color, Contrast; alpha stays. `spare` is written to."""
    size = h * w
    if kind == COLOR:
        for i in range(size):
            spare[U(i)] = gray(a, i, size)
        for p in range(3):
            for i in range(size):
                a[U(p * size + i)] = blend(spare[U(i)], a[U(p * size + i)], f)
        return
    mean = np.uint8(0)
    if kind == CONTRAST:
        total = 0
        for i in range(size):
            total += gray(a, i, size)
        mean = np.uint8((2 * total + size) // (2 * size))
    for i in range(3 * size):
        a[U(i)] = blend(mean, a[U(i)], f)


@compiled
def sharpen(f: Any, a: Any, b: Any, h: Any, w: Any) -> None:
    """Sharpness, from a to b: blend with the blur (1,1,1,1,5,1,1,1,1)/13. Border, alpha, small images: copied."""
    size = h * w
    for i in range(4 * size):
        b[U(i)] = a[U(i)]
    for line in range(3 * h):
        if line % h == 0 or line % h == h - 1:
            continue
        m = line * w
        for x in range(m + 1, m + w - 1):
            total = 4 * np.int64(a[U(x)])
            for at in (x - w, x, x + w):
                total += np.int64(a[U(at - 1)]) + a[U(at)] + a[U(at + 1)]
            # total / 13 to nearest (there are no ties): 5042 / 65536 is near enough to 1 / 13 up to 3321
            b[U(x)] = blend(np.uint8(((total + 6) * 5042) >> 16), a[U(x)], f)


@compiled
def histogram(a: Any, base: Any, size: Any, counts: Any) -> None:
    """Counts of one plane's values; in four tables, so that equal neighbors do not wait for each other."""
    counts[:] = 0
    for i in range(0, size, 4):
        for k in range(min(4, size - i)):
            counts[U(k * 256 + a[U(base + i + k)])] += np.int32(1)
    for v in range(256):
        counts[U(v)] += counts[U(v + 256)] + counts[U(v + 512)] + counts[U(v + 768)]


@compiled
def equalize(a: Any, base: Any, size: Any, counts: Any, lut: Any) -> Any:
    """The table of one plane, and whether it is needed: not with a single value, nor with too few pixels."""
    histogram(a, base, size, counts)
    top = 255
    while counts[top] == 0:
        top -= 1
    step = (size - counts[top]) // 255
    if counts[top] == size or step == 0:
        return False
    before = step // 2
    for v in range(256):
        counts[U(v + 256)] = before
        before += counts[U(v)]
    for v in range(256):  # the float64 quotient of such integers truncates to the exact one, and vectorizes
        lut[U(v)] = np.uint8(min(np.int32(np.float64(counts[U(v + 256)]) / np.float64(step)), np.int32(255)))
    return True


@compiled
def autocontrast(a: Any, base: Any, size: Any, lut: Any) -> Any:
    """The table of one plane, stretched from its least to its greatest value, and whether it is needed."""
    low = np.uint8(255)
    high = np.uint8(0)
    for i in range(size):
        low = min(low, a[U(base + i)])
        high = max(high, a[U(base + i)])
    if high <= low:
        return False
    scale = 255.0 / (np.int64(high) - np.int64(low))
    offset = -np.float64(low) * scale
    for v in range(256):
        lut[U(v)] = np.uint8(np.int32(min(max(v * scale + offset, 0.0), 255.0)))
    return True


@compiled
def recolor(kind: Any, number: Any, a: Any, h: Any, w: Any, counts: Any, lut: Any) -> None:
    """The ops that go through RGB: every alpha becomes 255."""
    size = h * w
    if kind == INVERT:
        for i in range(3 * size):
            a[U(i)] = 255 - a[U(i)]
    elif kind == POSTERIZE:
        for i in range(3 * size):
            a[U(i)] = a[U(i)] & number
    elif kind == SOLARIZE:
        for i in range(3 * size):
            a[U(i)] = a[U(i)] if a[U(i)] < number else 255 - a[U(i)]
    else:
        for base in range(0, 3 * size, size):
            equalizing = kind == EQUALIZE
            if equalize(a, base, size, counts, lut) if equalizing else autocontrast(a, base, size, lut):
                for i in range(base, base + size):
                    a[U(i)] = lut[U(a[U(i)])]
    for i in range(3 * size, 4 * size):
        a[U(i)] = 255


@compiled
def load(images: Any, base: Any, interleaved: Any, channels: Any, size: Any, a: Any) -> None:
    """Fills the four planes from one image; alpha is 255 where the image has none."""
    if channels == 1:
        for i in range(size):
            a[U(i)] = a[U(i + size)] = a[U(i + 2 * size)] = images[U(base + i)]
    elif interleaved == 1 and channels == 3:  # all planes in one loop: it vectorizes with shuffles
        for i in range(size):
            a[U(i)] = images[U(base + 3 * i)]
            a[U(i + size)] = images[U(base + 3 * i + 1)]
            a[U(i + 2 * size)] = images[U(base + 3 * i + 2)]
    else:
        along, across = (channels, 1) if interleaved == 1 else (1, size)
        for p in range(channels):
            for i in range(size):
                a[U(p * size + i)] = images[U(base + p * across + i * along)]
    if channels != 4:
        for i in range(3 * size, 4 * size):
            a[U(i)] = 255


@compiled
def part_of(head: Any, start: Any, height: Any, width: Any) -> Any:
    """(top, left, height, width) of the part of a stored image that is loaded, uniform over all places."""
    if head.mode == WINDOW:
        top = draw(start, 1, height - head.height + 1)
        return top, draw(start, 2, width - head.width + 1), head.height, head.width
    for attempt in range(TRIES):
        share = draw(start, 4 * attempt + 1, 1 << 24) / np.float64(1 << 24)
        area = height * width * (head.low + (head.high - head.low) * share)
        ratio = head.ratios[draw(start, 4 * attempt + 2, RATIOS)]
        wide = np.int64(np.floor(np.sqrt(area * ratio) + 0.5))
        high = np.int64(np.floor(np.sqrt(area / ratio) + 0.5))
        if 0 < wide <= width and 0 < high <= height:
            top = draw(start, 4 * attempt + 3, height - high + 1)
            return top, draw(start, 4 * attempt + 4, width - wide + 1), high, wide
    wide = min(width, np.int64(np.floor(height * head.ratios[-1] + 0.5)))
    high = min(height, np.int64(np.floor(width / head.ratios[0] + 0.5)))
    return (height - high) // 2, (width - wide) // 2, high, wide


@compiled
def window(
    images: Any, base: Any, along: Any, across: Any, row: Any, part: Any, channels: Any, a: Any
) -> None:
    """Fills the planes from a part of an image without changing its scale; alpha is 255.

    `along`: between two pixels of a row, `across`: between two channels, `row`: between two rows.
    """
    top, left, h, w = part
    size = h * w
    for p in range(3):
        plane = base + (p * across if channels == 3 else 0)
        for y in range(h):
            source = plane + (top + y) * row + left * along
            for x in range(w):
                a[U(p * size + y * w + x)] = images[U(source + x * along)]
    for i in range(3 * size, 4 * size):
        a[U(i)] = 255


@compiled
def taps(length: Any, out: Any, bounds: Any, weights: Any, most: Any) -> None:
    """First input and number of inputs of every output, and their weights: Pillow's bilinear filter, antialiased."""
    scale = length / out
    support = max(scale, 1.0)
    for i in range(out):
        center = (i + 0.5) * scale
        first: Any = max(np.int64(center - support + 0.5), 0)
        count: Any = min(np.int64(center + support + 0.5), length) - first
        total = 0.0
        for k in range(count):
            total += max(0.0, 1.0 - abs((first + k - center + 0.5) / support))
        for k in range(count):
            weight = max(0.0, 1.0 - abs((first + k - center + 0.5) / support)) / total
            weights[i * most + k] = np.int64(0.5 + weight * (1 << SCALED))
        bounds[2 * i], bounds[2 * i + 1] = first, count


@compiled
def resized(
    images: Any,
    base: Any,
    along: Any,
    across: Any,
    row: Any,
    part: Any,
    channels: Any,
    h: Any,
    w: Any,
    a: Any,
    spare: Any,
) -> None:
    """Fills the planes from a part of an image scaled to h x w: columns first, each direction rounded to bytes."""
    middle, bounds, weights, sums = spare
    top, left, high, wide = part
    size, most = h * w, len(weights) // max(h, w)
    half = np.int32(1 << (SCALED - 1))
    for p in range(channels):
        taps(wide, w, bounds, weights, most)
        for y in range(high):
            source = base + p * across + (top + y) * row + left * along
            for x in range(w):
                total: Any = half
                for k in range(bounds[2 * x + 1]):
                    at = source + (bounds[2 * x] + k) * along
                    total += np.int32(images[U(at)]) * weights[x * most + k]
                middle[U(y * w + x)] = np.uint8(min(total >> SCALED, 255))
        taps(high, h, bounds, weights, most)
        for y in range(h):
            for x in range(w):
                sums[U(x)] = half
            for k in range(bounds[2 * y + 1]):
                source = (bounds[2 * y] + k) * w
                for x in range(w):
                    sums[U(x)] += np.int32(middle[U(source + x)]) * weights[y * most + k]
            for x in range(w):
                a[U(p * size + y * w + x)] = np.uint8(min(sums[U(x)] >> SCALED, 255))
    for p in range(channels, 3):
        for i in range(size):
            a[U(p * size + i)] = a[U(i)]
    for i in range(3 * size, 4 * size):
        a[U(i)] = 255


@compiled
def working_memory(head: Any, height: Any, width: Any) -> Any:
    """What `resized` needs beside the planes: one plane of columns, bounds and weights of the filter, one row of sums.

    The weights of an output are 2 * ceil(scale) + 1 at most.
    """
    longest = max(head.height, head.width) if head.mode == RESIZED else 0
    widest: Any = 1.0
    if longest > 0:
        widest = max(widest, height / head.height, width / head.width)
    most = 2 * np.int64(np.ceil(widest)) + 1
    return (
        np.empty(height * head.width if longest > 0 else 0, np.uint8),
        np.empty(2 * longest, np.int64),
        np.empty(most * longest, np.int32),
        np.empty(longest, np.int32),
    )


@compiled
def luma(a: Any, size: Any) -> None:
    """Makes the first plane the image in gray, as Pillow converts RGB; equal channels stay as they are."""
    for i in range(size):
        a[U(i)] = gray(a, i, size)


@compiled
def store(a: Any, size: Any, row: Any, out: Any) -> None:
    """Writes one image's planes as bytes, with `fill` at exposed pixels if that is wanted."""
    pixels = out.pixels
    base = row * size * out.channels
    if len(out.exposed) > 0:
        for i in range(size):
            out.exposed[row, U(i)] = a[U(i + 3 * size)] == 0
    if len(out.fill) > 0:
        for p in range(3):
            for i in range(size):
                a[U(i + p * size)] = out.fill[p] if a[U(i + 3 * size)] == 0 else a[U(i + p * size)]
    if out.channels == 1:
        luma(a, size)
    if out.interleaved == 1 and out.channels == 3:
        for i in range(size):
            pixels[U(base + 3 * i)] = a[U(i)]
            pixels[U(base + 3 * i + 1)] = a[U(i + size)]
            pixels[U(base + 3 * i + 2)] = a[U(i + 2 * size)]
    else:
        along, across = (out.channels, 1) if out.interleaved == 1 else (1, size)
        for p in range(out.channels):
            for i in range(size):
                pixels[U(base + p * across + i * along)] = a[U(p * size + i)]


@compiled
def finish(
    a: Any, h: Any, w: Any, start: Any, tail: Any, exposing: Any, result: Any, base: Any, along: Any
) -> None:
    """Crop, flip, cutout and normalization of one image; exposed pixels and padding become 0.

    It is written to `result` from position `base`, one pixel `along` after the other. `exposing`: whether there may
    be exposed pixels.
    """
    size = h * w
    down = draw(start, 1, 2 * tail.crop + 1) - tail.crop
    right = draw(start, 2, 2 * tail.crop + 1) - tail.crop
    shift, step, first, last = right, 1, max(0, -right), min(w, w - right)
    if tail.flip == 1 and draw(start, 3, 2) == 1:
        shift, step, first, last = w - 1 + right, -1, max(0, right), min(w, w + right)
    x0 = draw(start, 4, w) - tail.cutout // 2
    y0 = draw(start, 5, h) - tail.cutout // 2
    for p in range(len(tail.table)):
        plane = base + (p * size if along == 1 else p)
        for y in range(h):
            to = plane + y * w * along
            outside = y + down < 0 or y + down >= h or last <= first
            begin, end = (w, w) if outside else (first, last)
            for x in range(begin):
                result[U(to + x * along)] = F(0)
            for x in range(end, w):
                result[U(to + x * along)] = F(0)
            source = (y + down) * w + shift
            for x in range(begin, end):
                at = source + step * x
                result[U(to + x * along)] = tail.table[U(p), U(a[U(p * size + at)])]
            if exposing:
                for x in range(begin, end):
                    if a[U(3 * size + source + step * x)] == 0:
                        result[U(to + x * along)] = F(0)
        for y in range(max(0, y0), min(h, y0 + tail.cutout)):
            for x in range(max(0, x0), min(w, x0 + tail.cutout)):
                result[U(plane + (y * w + x) * along)] = F(0)


@compiled
def halve(bits: Any, half: Any, base: Any) -> None:
    """Float32 as bits, rounded to the nearest bfloat16 (ties to even)."""
    for i in range(len(bits)):
        odd = (bits[U(i)] >> np.uint32(16)) & np.uint32(1)
        half[U(base + i)] = np.uint16((bits[U(i)] + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@compiled
def augment(images: Any, form: Any, index: Any, ids: Any, part: Any, keys: Any, todo: Any) -> None:
    """One pass: images `index[first:last]` through their ops, the results to rows first..last-1 of the output.

    `form` is (interleaved, channels, height, width) as stored, `part` (first, last), `todo` (Head, Program, Tail,
    Output).
    """
    interleaved, channels, height, width = form
    head, program, tail, out = todo
    h, w = (height, width) if head.mode == AS_IS else (head.height, head.width)
    size, stored = h * w, height * width * channels
    along, across = (channels, 1) if interleaved == 1 else (1, height * width)
    a = np.empty(4 * size, np.uint8)
    b = np.empty(4 * size, np.uint8)
    counts = np.empty(4 * 256, np.int32)
    lut = np.empty(256, np.uint8)
    order = np.empty(len(program.kernel), np.int64)
    chosen = np.empty((max(2, program.amount), 4), np.int64)
    halving = len(out.half) > 0
    planes = len(tail.table)
    bits = np.empty(planes * size if halving else 0, np.uint32)
    result = bits.view(np.float32) if halving else out.single
    pitch = planes if out.interleaved == 1 else 1
    spare = working_memory(head, height, width)
    for row in range(part[0], part[1]):
        base = index[row] * stored
        if head.mode == AS_IS:
            load(images, base, interleaved, channels, size, a)
        else:
            chosen_part = part_of(head, stream(keys[2], ids[row]), height, width)
            if head.mode == WINDOW:
                window(images, base, along, across, along * width, chosen_part, channels, a)
            else:
                resized(images, base, along, across, along * width, chosen_part, channels, h, w, a, spare)
        count = choose(program, row, stream(keys[0], ids[row]), h, w, order, chosen)
        if len(out.trace) > 0:
            out.trace[row] = -1
            out.trace[row, :count] = chosen[:count]
        exposing = channels == 4
        for k in range(count):
            slot = chosen[k, 0]
            kind = program.kernel[slot]
            numbers = program.numbers[slot, chosen[k, 1]]
            exposing = kind < INVERT and (exposing or kind in (AFFINE, CUTOUT))
            if kind == AFFINE:
                affine(a, b, h, w, numbers)
                a, b = b, a
            elif kind == CUTOUT:
                cut(a, h, w, chosen[k, 2], chosen[k, 3], numbers[0])
            elif kind >= INVERT:
                recolor(kind, numbers[0], a, h, w, counts, lut)
            elif kind == SHARPNESS:
                sharpen(program.factor[slot, chosen[k, 1]], a, b, h, w)
                a, b = b, a
            elif kind != IDENTITY:
                enhance(kind, program.factor[slot, chosen[k, 1]], a, b, h, w)
        if len(out.pixels) > 0:
            store(a, size, row, out)
        else:
            if planes == 1:
                luma(a, size)
            start = stream(keys[1], ids[row])
            finish(a, h, w, start, tail, exposing, result, 0 if halving else row * planes * size, pitch)
            if halving:
                halve(bits, out.half, row * planes * size)
