"""A product whose left factor comes as bits, on tensor cores: sums of the rows of a matrix that bits choose.

    (1) out[i, o] = sum_k s[k, i] d[k, o]            s[k, i] bit i of row k, 0 or 1
    (2) d = d1 + d2 + ...,  d1 = tf32(d),  d2 = tf32(d - d1), and so on

A bit is a tf32 number, and two pieces of (2) are d up to its last bit, three are d itself. A tensor core cuts off what
float32 would round; so it adds up a few terms k only, and what comes of them is added to a thread's sums as float32.

A warp has 64 rows of (1), the bits of a word, and ACROSS columns; its fragments are those of mma (_ptx.py). A block
multiplies some terms in shared memory while the next ones are on their way there. The bits of a sum follow from the
sizes alone.
"""

from types import SimpleNamespace

import numpy as np

from ._driver import bounded, cuda, part
from ._ptx import QUAD, commit, copier, loader, mma, split, storer, waiter

copy_one, copy_four, load_one = copier(1), copier(QUAD), loader(1)
DOWN, ACROSS = 64, 16  # the tile of a warp
TWO, HALF = np.uint32(1 << 30), np.float32(0.5)  # the bits of 2.0 are one bit: a spike is made by a shift and an and
SUMS = (DOWN * ACROSS // 32,)  # of a thread: at 8 i + 4 l + 2 j, those of row 16 i + 8 l and column 8 j, and the next


def bits_product(high, wide, step, stages, pieces, together):
    """The kernel, columns, where the warps of a block are high x wide.

    step : terms at a time;  stages : so many times that in shared memory;  pieces : d's, of (2)
    together : so many blocks have enough registers on a multiprocessor
    """
    down, across, count = DOWN * high, ACROSS * wide, 32 * high * wide
    room_shape, words_shape = (stages * step, across + 8), (stages * step, high)  # lanes of mma have banks of their own
    shares = count // across  # of the terms, where (3) of dense.py is summed
    rows_of_quads = count // (across // QUAD)  # that all threads copy at once
    right_shape = (4 * pieces,)
    wait, store = waiter(stages - 2), storer(2)

    @part
    def bases(active, d, row, column, odd):
        """Where the first that this thread copies of words and of rows of d lies, after the first of these rows."""
        t, each = cuda.threadIdx.x, 1 if odd else QUAD
        k, j = t // (across // each), t % (across // each) * each
        of_words = np.int32(t // high * active.shape[1] + row // 64 + t % high)
        return of_words, np.int32(k * d.shape[1] + min(column + j, d.shape[1] - each))

    @part
    def bring(active, d, first, end, row, of_words, of_rows, odd, words, room, to):
        """Let copies of terms [first, first + step) begin."""
        t = cuda.threadIdx.x
        if first < end:
            if t < step * high:
                k, w = t // high, t % high
                live = first + k < end and row // 64 + w < active.shape[1]
                copy_one(words, to + k, w, active, first * active.shape[1] + of_words, live)
            if odd is None:
                k, j = t // (across // QUAD), t % (across // QUAD) * QUAD
                for e in range(0, step, rows_of_quads):
                    at = (first + e) * d.shape[1] + of_rows
                    copy_four(room, to + k + e, j, d, at, first + k + e < end)
            else:
                for e in range(0, step, shares):
                    k, j = t // across + e, t % across
                    copy_one(room, to + k, j, d, (first + e) * d.shape[1] + of_rows, first + k < end)
        commit()

    @part
    def multiply(words, room, to, sums):
        """sums += eq. (1) over the terms in shared memory."""
        a, b = cuda.local.array(4, np.uint32), cuda.local.array(right_shape, np.float32)
        few, pair = cuda.local.array(SUMS, np.float32), cuda.local.array(2, np.uint64)
        halves = cuda.local.array(4, np.uint32)
        g, h, warp = cuda.threadIdx.x % 32 // 4, cuda.threadIdx.x % 4, cuda.threadIdx.x // 32
        w, column = warp % high, ACROSS * (warp // high) + g
        for e in range(SUMS[0]):
            few[e] = 0
        for k in range(to + h, to + h + step, 8):
            for q in range(2):
                load_one(pair, q, words, k + 4 * q, w)
                halves[q] = np.uint32(pair[q]) >> np.uint32(g)
                halves[2 + q] = np.uint32(pair[q] >> np.uint64(32)) >> np.uint32(g)
            for j in range(4):
                load_one(b, j, room, k + 4 * (j % 2), column + 8 * (j // 2))
            split(b, 4, pieces)
            for i in range(4):
                for q in range(4):
                    a[q] = halves[i // 2 * 2 + q // 2] << np.uint32(30 - 16 * (i % 2) - 8 * (q % 2)) & TWO
                for s in range(pieces - 1, -1, -1):
                    for j in range(2):
                        mma(a, 0, b, 4 * s + 2 * j, few, 8 * i + 2 * j, 4)
        for e in range(SUMS[0]):
            sums[e] += HALF * few[e]

    @part
    def hand_out(sums, row, column, rows, odd, out):
        """out (R, C) = the tile from (row, column) on, as far as it is in the first `rows` rows."""
        lane, warp = cuda.threadIdx.x % 32, cuda.threadIdx.x // 32
        row, column = row + DOWN * (warp % high) + lane // 4, column + ACROSS * (warp // high) + 2 * (lane % 4)
        for e in range(0, SUMS[0], 2):
            r, c = row + 8 * (e // 4), column + 8 * (e % 4 // 2)
            if odd is None:
                if r < rows and c < out.shape[1]:
                    store(sums, e, out, r, c)
            else:
                for q in range(2):
                    if r < rows and c + q < out.shape[1]:
                        out[r, c + q] = sums[e + q]

    @bounded(count, together)
    def multiply_bits(active, d, terms, odd, parts):
        """Eqs. (2) and (3) of dense.py for active (R, ceil(I/64)) and d (R, O).

        parts (P, I + 1, O) is written in full, each of P over its share of the rows, dbias last.
        """
        room, sums = cuda.shared.array(room_shape, np.float32), cuda.local.array(SUMS, np.float32)
        words, one = cuda.shared.array(words_shape, np.uint64), cuda.local.array(1, np.float32)
        row, column, p = down * cuda.blockIdx.x, across * cuda.blockIdx.y, cuda.blockIdx.z
        thread, inputs, begin = cuda.threadIdx.x, parts.shape[1] - 1, p * terms
        end = min(begin + terms, d.shape[0])
        total = np.float32(0)
        for e in range(SUMS[0]):
            sums[e] = 0
        of_words, of_rows = bases(active, d, row, column, odd)
        for n in range(stages - 1):
            bring(active, d, begin + n * step, end, row, of_words, of_rows, odd, words, room, n * step)
        stage = 0
        for first in range(begin, end, step):
            wait()
            cuda.syncthreads()
            to = (stage + stages - 1) % stages * step
            bring(active, d, first + (stages - 1) * step, end, row, of_words, of_rows, odd, words, room, to)
            multiply(words, room, stage * step, sums)
            if row == 0:
                for k in range(0, step, shares):
                    load_one(one, 0, room, stage * step + thread // across + k, thread % across)
                    total += one[0]
            stage = (stage + 1) % stages
        hand_out(sums, row, column, inputs, odd, parts[p])
        if row == 0:
            cuda.syncthreads()
            room[thread // across, thread % across] = total
            cuda.syncthreads()
            if thread < across and column + thread < d.shape[1]:
                for k in range(1, shares):
                    total += room[k, thread]
                parts[p, inputs, column + thread] = total

    return SimpleNamespace(down=down, across=across, step=step, count=count, together=together, columns=multiply_bits)
