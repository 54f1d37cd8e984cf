"""Products with a weight matrix at every step t and for every sample b, (1) forward and (2)-(4) backward.

    (1) out[t, b] = x[t, b] W + bias
    (2) dW        = sum_tb x[t, b]^T d[t, b]
    (3) dbias     = sum_tb d[t, b]
    (4) dx[t, b]  = d[t, b] W^T

Weights lie as (inputs, outputs), so that one active input adds one row. With pixels and spikes most inputs are zero:
(1) and (2) are sums over the others, found by their bits (see bits.py). (4) is dense, BLOCK samples at a time.

What one thread has written, another one fetches as slowly as it would sum it. So halves of the samples in (2), and of
inputs that are constant in time in (1), are summed apart: of two threads each has then made most of what it sums. The
halves are the same on any number of threads, and so are the bits.

Sums over time run from the last row (t, b) to the first, as the backward pass does: those of a run in windows of a few
steps, the last window first, each added to what is there, are then the same to the bit.
"""

from . import vector
from ._compile import kernel, part
from ._threads import team
from .bits import (
    FAR,
    FEW,
    NEAR,
    ZERO,
    add_all_rows,
    add_narrow,
    add_next4,
    add_words,
    bring_near,
    copy_row,
    load4,
    pack_nonzero,
    store4,
    store_part4,
    three_after,
    turn,
)
from .tile import turn_square
from .vector import fused, lanes, load, load_part, room_for, store, store_part, zero

BLOCK = 16
plus = vector.add  # `add` is a kernel here
GRAIN = 4  # inputs: so many rows of W take a step together
UNCACHED = 1 << 20  # numbers of a matrix that are more than the caches hold beside all else


@part
def blocks(n, size):
    """How many blocks of a size n makes, the last one cut."""
    return -(-n // size)


@kernel(lambda x, *_: x.shape[1], grain=BLOCK)
def find_active(begin, end, x, active):
    """Where x (T, B, I) is not zero, as bits: active (T, B, ceil(I/64)) uint64, written in full."""
    for b in range(begin, end):
        for t in range(x.shape[0]):
            pack_nonzero(x[t, b], active[t, b])


@part
def add_to_rows(x, active, weight, begin, end, words, out):
    """out[t, b] += x[t, b] W for samples [begin, end), over the inputs of some words of active; see linear_forward."""
    for t in range(active.shape[0]):
        if x is None:
            add_all_rows(active[t, begin:end], None, weight, words, out[t, begin:end])
        else:
            add_all_rows(active[t, begin:end], x[t, begin:end], weight, words, out[t, begin:end])


@part
def is_narrow(inputs, outputs, width):
    """Whether a vector holds the outputs, and the first cache the rows of all inputs."""
    return outputs <= width and inputs <= 64 * FEW


@part
def forward_narrow(begin, end, active, weight, bias, out):
    """Eq. (1) for spikes and a narrow weight: four samples together, see add_next4, all steps before the next four."""
    steps, _, n = out.shape
    start, width, near = load_part(bias, 0, n), lanes(bias), room_for(bias, NEAR)
    for w in range(active.shape[2]):
        bring_near(weight, 64 * w, 1, min(weight.shape[0] - 64 * w, 64), 0, near[65 * width * w :])
    for b in range(begin, end, 4):
        b1, b2, b3 = three_after(b, end)
        for t in range(steps):
            o0 = o1 = o2 = o3 = start
            for w in range(active.shape[2]):
                w0, w1, w2, w3 = active[t, b, w], active[t, b1, w], active[t, b2, w], active[t, b3, w]
                rows = near[65 * width * w :]
                o0, o1, o2, o3 = add_next4(None, w0, w1, w2, w3, 0, 0, 0, 0, 0, rows, width, o0, o1, o2, o3)
            store_part4(out[t], b, b1, b2, b3, o0, o1, o2, o3, n)


@kernel(lambda x, active, *_: active.shape[1], grain=BLOCK)
def forward_samples(begin, end, x, active, weight, bias, out):
    """Eq. (1)."""
    if x is None:  # noqa: SIM102  Numba decides one by one what it leaves out
        if is_narrow(*weight.shape, lanes(bias)):
            forward_narrow(begin, end, active, weight, bias, out)
            return
    for t in range(active.shape[0]):
        for b in range(begin, end):
            copy_row(bias, out[t, b])
    add_to_rows(x, active, weight, begin, end, range(active.shape[2]), out)


@kernel(lambda x, active, weight, bias, parts: parts.shape[0] * -(-parts.shape[2] // BLOCK))
def forward_inputs(begin, end, x, active, weight, bias, parts):
    """Eq. (1) for each of P parts of the inputs, words of active, the bias in the first; an item is a block of samples.

    parts (P, T, B, O) float, written in full.
    """
    count, steps, batch, _ = parts.shape
    items, each = blocks(batch, BLOCK), active.shape[2] // count
    for p in range(count):
        low, high = max(begin - p * items, 0) * BLOCK, min((end - p * items) * BLOCK, batch)
        words = range(p * each, (p + 1) * each if p < count - 1 else active.shape[2])
        if low < high:
            for t in range(steps):
                if p == 0:
                    for b in range(low, high):
                        copy_row(bias, parts[p, t, b])
                else:
                    parts[p, t, low:high] = 0
            add_to_rows(x, active, weight, low, high, words, parts[p])


def num_input_parts(inputs: int, outputs: int) -> int:
    """Into how many parts linear_forward is to cut the inputs of what is not a spike and constant in time.

    Each of two threads makes the gradients of a half of a weight, and, if it is most of a net, changes about that half.
    So one thread reads it: what two have read takes either long to change, and the other one to read again.
    """
    return 2 if inputs >= 128 and inputs * outputs >= FAR else 1


def linear_forward(x, active, weight, bias, parts, out):
    """Eq. (1).

    Parameters
    ----------
    x : (T, B, I) float, or None if it is 1 where active
    active : (T, B, ceil(I/64)) uint64         where x is not zero: spikes, or what find_active found
    weight, bias : (I, O), (O,) float
    parts : None or (2, T, B, O) float         to work in, where inputs are to be cut
    out : (T, B, O) float                      written in full
    """
    if parts is None:
        forward_samples(x, active, weight, bias, out)
    else:
        team.wait()
        forward_inputs(x, active, weight, bias, parts)
        team.wait()
        add(parts[0], parts[1], out)


@part
def turn_words(active, last, count, base, words):
    """Bit r of word k: whether input base + k of row last - r is active, for `count` rows, 64 at most."""
    for r in range(64):
        words[r] = active[last - r, base // 64] if r < count else ZERO
    turn(words)


@part
def add_products(x, active, d, begin, end, dweight, dbias, add):
    """Eq. (2) added to inputs [begin, end) of dweight; x, active and d as in linear_backward, a row for each (t, b).

    64 rows are taken together, and four vectors of each at a time copied to where they stay in the first cache. Eq. (3)
    is for as large a share of dbias, added to if add, else written in full.
    """
    inputs, n, width = dweight.shape[0], dweight.shape[1], lanes(d[0])
    words, near = room_for(active[0], 64), room_for(d[0], NEAR)
    for last in range(d.shape[0] - 1, -1, -64):
        count = min(64, last + 1)
        c = 0
        while c < n:
            bring_near(d, last, -1, count, c, near)
            if begin * n <= c * inputs < end * n:
                add_up(near, count, c, dbias, add or last < d.shape[0] - 1)
            for base in range(begin // 64 * 64, end, 64):
                turn_words(active, last, count, base, words)
                add_words(x, words, last, base, max(begin, base), min(end, base + 64), near, c, dweight)
            c += 4 * width if c + 4 * width <= n else width


@part
def backward_narrow(active, d, samples, begin, end, dweight, dbias, add):
    """add_products for some samples of spikes (T, B, W) and d (T, B, O), at all steps, and a narrow weight.

    Sums are kept in rows of whole vectors: a row that overlaps with the vector of the one before waits for it.
    """
    steps, _, n = d.shape
    width, words, near, room = lanes(dbias), room_for(active[0, 0], 64), room_for(dbias, NEAR), room_for(dbias, NEAR)
    sums = room[: 64 * FEW * width].reshape(64 * FEW, width)
    for i in range(begin, end):
        store(sums[i], 0, load_part(dweight[i], 0, n) if add else zero(dbias))
    for t in range(steps - 1, -1, -1):
        for last in range(samples.stop - 1, samples.start - 1, -64):
            count = min(64, last + 1 - samples.start)
            bring_near(d[t], last, -1, count, 0, near)
            if begin == 0:
                add_up(near, count, 0, dbias, add or (t, last) != (steps - 1, samples.stop - 1))
            for base in range(begin // 64 * 64, end, 64):
                turn_words(active[t], last, count, base, words)
                add_narrow(None, words, last, base, max(begin, base), min(end, base + 64), near, 0, width, sums)
    for i in range(begin, end):
        store_part(dweight[i], 0, load(sums[i], 0), n)


@part
def add_up(near, count, c, out, add):
    """Eq. (3): `count` rows of d, columns from c on, as bring_near left them, added to out if add, else to 0."""
    n, width = out.shape[0], lanes(out)
    if c + 4 * width <= n:
        o0 = o1 = o2 = o3 = zero(out)
        if add:
            o0, o1, o2, o3 = load4(out, c, width)
        for at in range(0, 4 * width * count, 4 * width):
            d0, d1, d2, d3 = load4(near, at, width)
            o0, o1, o2, o3 = plus(o0, d0), plus(o1, d1), plus(o2, d2), plus(o3, d3)
        store4(out, c, width, o0, o1, o2, o3)
    else:
        o0 = load_part(out, c, n - c) if add else zero(out)
        for at in range(0, width * count, width):
            o0 = plus(o0, load(near, at))
        store_part(out, c, o0, n - c)


def num_parts(batch: int) -> int:
    """Into how many parts linear_backward is to cut samples that spiked.

    Halves are what each of two threads has made in the steps over samples, so neither has to fetch what the other made.
    Samples of a step are summed 64 at a time then, hence the sizes that they fill.
    """
    return 2 if batch % (2 * 64) == 0 else 1


@kernel(lambda x, active, d, dweight, *_: dweight.shape[0] * -(-dweight.shape[1] // GRAIN))
def linear_backward(begin, end, x, active, d, dweight, dbias, add):
    """Eqs. (2) and (3) for each of P parts of the samples; an item is GRAIN inputs of a part.

    Parameters
    ----------
    x, active : as in linear_forward
    d : (T, B, O) float
    dweight, dbias : (P, I, O), (P, O) float        added to if add, else written in full
    """
    (steps, batch, n), (parts, inputs, _) = d.shape, dweight.shape
    if parts == 1:
        steps, batch = 1, steps * batch  # rows (t, b) that lie one after the other
    marks, ds = active.reshape(steps, batch, active.shape[2]), d.reshape(steps, batch, n)
    samples = blocks(batch, parts * BLOCK) * BLOCK  # of a part: those of a thread of so many
    items = blocks(inputs, GRAIN)
    for p in range(parts):
        first, after = max(begin - p * items, 0) * GRAIN, min((end - p * items) * GRAIN, inputs)
        low, high = p * samples, min((p + 1) * samples, batch)
        if x is None:  # noqa: SIM102  Numba decides one by one what it leaves out
            if is_narrow(inputs, n, lanes(dbias[0])):
                if first < after:
                    backward_narrow(marks, ds, range(low, high), first, after, dweight[p], dbias[p], add)
                continue
        if first < after and not add:
            dweight[p, first:after] = 0
        for t in range(steps - 1 if first < after else -1, -1, -1):
            rows, sums, more = (marks[t, low:high], ds[t, low:high]), (dweight[p], dbias[p]), add or t < steps - 1
            if x is None:
                add_products(None, *rows, first, after, *sums, more)
            else:
                add_products(x.reshape(steps, batch, inputs)[t, low:high], *rows, first, after, *sums, more)


@part
def add_wide(a, terms, b, first, out, begin, end, c):
    """out[r] += sum_k a[r, terms + k] b[k] for rows [begin, end), in four vectors from column c on; = if terms is 0.

    b (K, ...) has these vectors of its rows from column `first` on. Four rows by four vectors of out, 64 float32, are
    in registers. Where fewer than four rows are left, the last is done more than once.
    """
    width = lanes(b[0])
    for r in range(begin, end, 4):
        r1, r2, r3 = three_after(r, end)
        s0, s1, s2, s3 = out[r], out[r1], out[r2], out[r3]
        o00 = o01 = o02 = o03 = o10 = o11 = o12 = o13 = o20 = o21 = o22 = o23 = o30 = o31 = o32 = o33 = zero(s0)
        if terms > 0:
            o00, o01, o02, o03 = load4(s0, c, width)
            o10, o11, o12, o13 = load4(s1, c, width)
            o20, o21, o22, o23 = load4(s2, c, width)
            o30, o31, o32, o33 = load4(s3, c, width)
        for k in range(b.shape[0]):
            t = terms + k
            b0, b1, b2, b3 = load4(b[k], first, width)
            x = a[r, t]
            o00, o01, o02, o03 = fused(x, b0, o00), fused(x, b1, o01), fused(x, b2, o02), fused(x, b3, o03)
            x = a[r1, t]
            o10, o11, o12, o13 = fused(x, b0, o10), fused(x, b1, o11), fused(x, b2, o12), fused(x, b3, o13)
            x = a[r2, t]
            o20, o21, o22, o23 = fused(x, b0, o20), fused(x, b1, o21), fused(x, b2, o22), fused(x, b3, o23)
            x = a[r3, t]
            o30, o31, o32, o33 = fused(x, b0, o30), fused(x, b1, o31), fused(x, b2, o32), fused(x, b3, o33)
        store4(s0, c, width, o00, o01, o02, o03)
        store4(s1, c, width, o10, o11, o12, o13)
        store4(s2, c, width, o20, o21, o22, o23)
        store4(s3, c, width, o30, o31, o32, o33)


@part
def product(a, b, out, begin, end):
    """out[r] = a[r] b for rows [begin, end); b (K, N), brought near 64 rows at a time if no cache holds it."""
    terms, n = b.shape
    near, width = room_for(b[0], NEAR), lanes(b[0])
    c = 0
    while c + 4 * width <= n:
        if b.size < UNCACHED:
            add_wide(a, 0, b, c, out, begin, end, c)
        else:
            for first in range(0, terms, 64):
                count = min(64, terms - first)
                bring_near(b, first, 1, count, c, near)
                add_wide(a, first, near[: 4 * width * count].reshape(count, 4 * width), 0, out, begin, end, c)
        c += 4 * width
    while c < n:
        left = n - c
        for r in range(begin, end, 4):
            r1, r2, r3 = three_after(r, end)
            o0 = o1 = o2 = o3 = zero(b[0])
            for k in range(terms):
                row = load_part(b[k], c, left)
                o0, o1 = fused(a[r, k], row, o0), fused(a[r1, k], row, o1)
                o2, o3 = fused(a[r2, k], row, o2), fused(a[r3, k], row, o3)
            store_part(out[r], c, o0, left)
            store_part(out[r1], c, o1, left)
            store_part(out[r2], c, o2, left)
            store_part(out[r3], c, o3, left)
        c += width


@kernel(lambda d, *_: d.shape[1], grain=BLOCK)
def linear_backward_input(begin, end, d, weight, dx):
    """Eq. (4): d (T, B, O), weight (O, I) transposed, dx (T, B, I) written in full."""
    for t in range(d.shape[0]):
        product(d[t], weight, dx[t], begin, end)


@kernel(lambda d, *_: d.shape[1], grain=BLOCK)
def sum_over_time(begin, end, d, out, add):
    """out[b] = sum_t d[t, b], or more by it if add: what a current that is constant in time gets back.

    d (T, B, N), out (B, N).
    """
    last, n, width = d.shape[0] - 1, d.shape[2], lanes(out[0])
    for b in range(begin, end):
        for c in range(0, n, width):
            total = load_part(out[b], c, n - c) if add else load_part(d[last, b], c, n - c)
            for t in range(last if add else last - 1, -1, -1):
                total = plus(total, load_part(d[t, b], c, n - c))
            store_part(out[b], c, total, n - c)


@kernel(lambda x, *_: x.shape[1], grain=BLOCK)
def add(begin, end, x, y, out):
    """out = x + y, all (T, B, N)."""
    for t in range(x.shape[0]):
        for b in range(begin, end):
            for n in range(x.shape[2]):
                out[t, b, n] = x[t, b, n] + y[t, b, n]


@kernel(lambda a, *_: a.shape[0], grain=BLOCK)
def transpose(begin, end, a, out):
    """out = a^T; a (I, O), out (O, I) written in full."""
    rows, columns = a.shape
    numbers, turned, width = a.reshape(-1), out.reshape(-1), lanes(a)
    whole, wide = end - (end - begin) % width, columns - columns % width
    for i in range(begin, whole, width):
        for j in range(0, wide, width):
            turn_square(numbers, i * columns + j, columns, turned, j * rows + i, rows)
    for i in range(begin, end):
        for j in range(wide if i < whole else 0, columns):
            out[j, i] = a[i, j]


__all__ = [
    "BLOCK",
    "add",
    "find_active",
    "linear_backward",
    "linear_backward_input",
    "linear_forward",
    "num_input_parts",
    "num_parts",
    "sum_over_time",
    "transpose",
]
