"""Products of matrices in square tiles, of which a block of threads makes one.

    (1) out[r, c] = sum_k left[k, r] right[k, c]

A block multiplies a few terms k of both factors in shared memory while the next ones are on their way there. Its warps
share out the tile or, where that is small, the terms, and then their sums are added in order. A thread's sums lie in
runs of neighbours, so that one load of a run serves many products:

    row(i) = row + i % run + (i // run) lanes run,       as many lanes as lie below each other; columns alike

A factor that comes as bits is made floats on its way to shared memory. Nothing depends on what else is launched, nor on
the device: the bits of a sum follow from the sizes.
"""

from types import SimpleNamespace

import numpy as np

from ._driver import bounded, cuda, part, sync_warp
from ._ptx import QUAD, commit, copier, loader, mma, storer, tf32, waiter

copy_one, copy_four = copier(1), copier(QUAD)
load_one, load_four, store_one, store_four = loader(1), loader(QUAD), storer(1), storer(QUAD)


def product_kernels(size, step, stages, lanes, each, runs, count, together, tensor=False):
    """The two kernels, rows and columns, for tiles of size x size.

    step : terms at a time;  stages : so many times that in shared memory
    lanes, each, runs : down and across, a warp's threads, a thread's sums, and how many of these are neighbours
    count : threads of a block;  together : so many blocks have enough registers on a multiprocessor
    tensor : whether the products are tf32's, on the tensor cores
    """
    (down, across), (high, wide), (run_down, run_across) = lanes, each, runs
    warp, warp_rows, warp_columns = down * across, down * high, across * wide
    warps_across = size // warp_columns
    tile_warps = size // warp_rows * warps_across
    groups = count // (warp * tile_warps)
    share = step // groups  # terms of a group
    held = size * step // count  # numbers of a factor that a thread brings
    room_shape = 2 * stages * step, size + (8 if tensor else 4)  # lanes of mma, or of a copy, have banks of their own
    sums_shape, down_shape, across_shape, floats_shape = high * wide, max(high, 4), wide, stages * held
    quads = held // QUAD
    lines, apart = (held, 1) if groups > 1 else (1, step // held)  # of the rows whose numbers a thread copies
    load_down, load_across, store = loader(run_down), loader(run_across), storer(run_across)
    wait = waiter(stages - 2)

    @part
    def place():
        """Row and column of this thread's first sum."""
        lane, mine = cuda.threadIdx.x % warp, cuda.threadIdx.x // warp % tile_warps
        row = mine // warps_across * warp_rows + lane // across * run_down
        return row, mine % warps_across * warp_columns + lane % across * run_across

    @part
    def down_at(i):
        """From the row of the first sum to that of sum (i, j)."""
        return i % run_down + i // run_down * (down * run_down)

    @part
    def across_at(j):
        """From the column of the first sum to that of sum (i, j)."""
        return j % run_across + j // run_across * (across * run_across)

    @part
    def multiply_term(room, left, right, row, column, a, b, sums):
        """sums += the products of rows `left` and `right` of shared memory."""
        for i in range(0, high, run_down):
            load_down(a, i, room, left, row + i * down)
        for j in range(0, wide, run_across):
            load_across(b, j, room, right, column + j * across)
        for i in range(high):
            for j in range(wide):
                sums[i * wide + j] += a[i] * b[j]

    @part
    def multiply(room, left, right, row, column, sums):
        """Eq. (1) over this thread's share of the terms in shared memory."""
        a = cuda.local.array(down_shape, room.dtype)
        b = cuda.local.array(across_shape, room.dtype)
        first = cuda.threadIdx.x // (warp * tile_warps) * share
        for k in range(first, first + share, 2):  # unrolled by hand; more takes more registers
            multiply_term(room, left + k, right + k, row, column, a, b, sums)
            multiply_term(room, left + k + 1, right + k + 1, row, column, a, b, sums)

    @part
    def multiply_tf32(room, left, right, row, column, sums):
        """multiply, 8 terms at a time by mma; row and column are those of D's first number."""
        a = cuda.local.array(down_shape, room.dtype)
        b = cuda.local.array(across_shape, room.dtype)
        h = cuda.threadIdx.x % 4
        column = column - 2 * h + cuda.threadIdx.x % 32 // 4
        for first in range(0, step, 8):
            for j in range(wide):
                load_one(b, j, room, right + first + h + 4 * (j % 2), column + 8 * (j // 2))
                b[j] = tf32(b[j])
            for i in range(0, high, 2):
                for q in range(4):
                    load_one(a, q, room, left + first + h + q // 2 * 4, row + 8 * (i + q % 2))
                    a[q] = tf32(a[q])
                for j in range(0, wide, 2):
                    mma(a, 0, b, j, sums, i * wide + j, wide)

    @part
    def base_of_rows(source, column, odd):
        """Where the first that this thread copies of rows from a column on lies, after the first of these rows.

        Vectors, or numbers where rows are odd. Columns outside of source are its last ones.
        """
        if odd is None:
            k, j = cuda.threadIdx.x // (size // QUAD), cuda.threadIdx.x % (size // QUAD) * QUAD
            return np.int32(k * source.shape[1] + min(column + j, source.shape[1] - QUAD))
        k, j = cuda.threadIdx.x // size * lines, cuda.threadIdx.x % size
        return np.int32(k * source.shape[1] + min(column + j, source.shape[1] - 1))

    @part
    def copy_rows(room, to, source, first, end, base, odd):
        """room[to:] = rows [first, first + step) of source from base_of_rows on, with zeros from row `end` on."""
        t = cuda.threadIdx.x
        if odd is None:
            k, j = t // (size // QUAD), t % (size // QUAD) * QUAD
            for e in range(0, step, step // quads):
                copy_four(room, to + k + e, j, source, base + (first + e) * source.shape[1], first + k + e < end)
        else:
            k, j = t // size * lines, t % size
            for e in range(0, held * apart, apart):
                copy_one(room, to + k + e, j, source, base + (first + e) * source.shape[1], first + k + e < end)

    @part
    def base_of_columns(source):
        """Where the first that this thread copies of columns lies, after the first of these columns and rows."""
        k, i = cuda.threadIdx.x // warp * share + cuda.threadIdx.x % share, cuda.threadIdx.x % warp // share
        return np.int32(i * source.shape[1] + k)

    @part
    def copy_columns(room, to, source, first, end, row, base):
        """room[to:] = columns [first, first + step) of source from a row on, with zeros from column `end` on."""
        k, i = cuda.threadIdx.x // warp * share + cuda.threadIdx.x % share, cuda.threadIdx.x % warp // share
        rows = np.int32(source.shape[0] - row)
        for e in range(0, size, size // held):
            at = (row + e) * source.shape[1] + first + base
            copy_one(room, to + k, i + e, source, at, first + k < end and i + e < rows)

    @part
    def bits_at(active, r, n, end):
        """The bits from n on of a row of words before `end`, as far as they are in n's word."""
        if r < end and n // 64 < active.shape[1]:
            return np.uint32(active[r, n // 64] >> np.uint64(n % 64))
        return np.uint32(0)

    @part
    def take(columns, x, active, first, end, row, odd, floats, bits, n):
        """Load this thread's share of terms [first, first + step) of x, if it goes through registers, as its n-th.

        It is `quads` vectors of terms of rows, or `held` bits: terms of a row or, for columns, rows of a term.
        """
        t = cuda.threadIdx.x
        if x is None:
            if columns:
                bits[n] = bits_at(active, first + t // (size // held), row + t % (size // held) * held, end)
            else:
                bits[n] = bits_at(active, row + t % size, first + t // size * held, active.shape[0])
        elif groups == 1 and not columns:
            k, i = first + t % (step // QUAD) * QUAD, t // (step // QUAD)
            live = np.int32(min(end - k, QUAD))
            for e in range(quads):
                r, at = min(row + i + e * (size // quads), x.shape[0] - 1), n * held + e * QUAD
                for q in range(QUAD):
                    floats[at + q] = 0
                if odd is None:
                    if live > 0:
                        load_four(floats, at, x, r, k)
                else:
                    for q in range(QUAD):
                        if q < live:
                            load_one(floats, at + q, x, r, k + q)

    @part
    def put(columns, x, floats, bits, n, room, to):
        """room[to:] = what take took to this place, terms as rows."""
        t = cuda.threadIdx.x
        if x is None:
            for e in range(held):
                floats[e] = bits[n] >> np.uint32(e) & np.uint32(1) != 0
            if columns:
                for e in range(0, held, QUAD):
                    store_four(floats, e, room, to + t // (size // held), t % (size // held) * held + e)
            else:
                for e in range(held):
                    store_one(floats, e, room, to + t // size * held + e, t % size)
        elif groups == 1 and not columns:
            k, i = to + t % (step // QUAD) * QUAD, t // (step // QUAD)
            for e in range(quads):
                for q in range(QUAD):
                    store_one(floats, n * held + e * QUAD + q, room, k + q, i + e * (size // quads))

    @part
    def bring(columns, x, right, first, end, row, left_base, right_base, odd, room, to):
        """Let copies of terms [first, first + step) begin: all but those that go through registers."""
        if first < end:
            copy_rows(room, to + step, right, first, end, right_base, odd)
            if x is not None:
                if columns:
                    copy_rows(room, to, x, first, end, left_base, odd)
                elif groups > 1:
                    copy_columns(room, to, x, first, end, row, left_base)
        commit()

    @part
    def sum_terms(columns, x, active, right, odd, begin, end, row, column, room, sums):
        """Eq. (1) over terms [begin, end); returns this thread's part of the sums of right[k] of each column.

        columns : whether x (K, R) has terms as rows, else x is (R, K)
        odd : None if all rows that are copied begin at multiples of 16 bytes
        """
        at_row, at_column = place()
        for e in range(high * wide):
            sums[e] = 0
        total = room.dtype.type(0)
        left_base, right_base = np.int32(0), base_of_rows(right, column, odd)
        if x is not None:
            left_base = base_of_rows(x, row, odd) if columns else base_of_columns(x)
        floats, bits = cuda.local.array(floats_shape, room.dtype), cuda.local.array(stages, np.uint32)
        for n in range(stages):
            now, to = begin + n * step, 2 * n * step
            take(columns, x, active, now, end, row, odd, floats, bits, n)
            if n < stages - 1:
                bring(columns, x, right, now, end, row, left_base, right_base, odd, room, to)
        for n in range(stages - 1):
            put(columns, x, floats, bits, n, room, 2 * n * step)
        bits[0] = bits[stages - 1]
        for e in range(held):
            floats[e] = floats[(stages - 1) * held + e]
        stage = 0
        for first in range(begin, end, step):
            wait()
            if apart == tile_warps == quads == 1:
                sync_warp()  # a warp brings the terms that it multiplies, and no others
            else:
                cuda.syncthreads()
            left, to = 2 * stage * step, 2 * ((stage + stages - 1) % stages) * step
            now = first + (stages - 1) * step
            bring(columns, x, right, now, end, row, left_base, right_base, odd, room, to)
            put(columns, x, floats, bits, 0, room, to)  # they came while the terms before were multiplied
            take(columns, x, active, now + step, end, row, odd, floats, bits, 0)
            if tensor:
                multiply_tf32(room, left, left + step, at_row, at_column, sums)
            else:
                multiply(room, left, left + step, at_row, at_column, sums)
            if columns and row == 0:
                for e in range(held):
                    k = left + step + cuda.threadIdx.x // size * held + e
                    total += room[k, cuda.threadIdx.x % size]
            stage = (stage + 1) % stages
        cuda.syncthreads()
        return total

    @part
    def hand_out(sums, room, row, column, rows, bias, add, odd, out):
        """out (R, C) = the tile from (row, column) on, and the bias (C,) or what was there."""
        at_row, at_column = place()
        if groups == 1:
            row, column = row + at_row, column + at_column
            if bias is not None:
                for i in range(high):
                    for j in range(wide):
                        sums[i * wide + j] += bias[min(column + across_at(j), out.shape[1] - 1)]
            if add:
                for i in range(high):
                    for j in range(wide):
                        r, c = min(row + down_at(i), rows - 1), min(column + across_at(j), out.shape[1] - 1)
                        sums[i * wide + j] += out[r, c]
            if odd is None:
                for i in range(high):
                    for j in range(0, wide, run_across):
                        r, c = row + down_at(i), column + across_at(j)
                        if r < rows and c < out.shape[1]:
                            store(sums, i * wide + j, out, r, c)
            else:
                for i in range(high):
                    for j in range(wide):
                        r, c = row + down_at(i), column + across_at(j)
                        if r < rows and c < out.shape[1]:
                            out[r, c] = sums[i * wide + j]
        else:
            group = cuda.threadIdx.x // (warp * tile_warps)
            for i in range(high):
                for j in range(wide):
                    room[group * size + at_row + down_at(i), at_column + across_at(j)] = sums[i * wide + j]
            cuda.syncthreads()
            for mine in range(cuda.threadIdx.x, size * size, count):
                r, c = mine // size, mine % size
                total = room[r, c]
                for k in range(1, groups):
                    total += room[k * size + r, c]
                r, c = row + r, column + c
                if r < rows and c < out.shape[1]:
                    if bias is not None:
                        total += bias[c]
                    out[r, c] = out[r, c] + total if add else total

    @bounded(count, together)
    def multiply_rows(x, active, weight, bias, terms, odd, out):
        """Eq. (1) of dense.py for x (R, I) or active (R, ceil(I/64)): out (P, R, O), each of P over its terms."""
        room = cuda.shared.array(room_shape, weight.dtype)
        sums = cuda.local.array(sums_shape, weight.dtype)
        row, column, p = size * cuda.blockIdx.x, size * cuda.blockIdx.y, cuda.blockIdx.z
        end = min((p + 1) * terms, weight.shape[0])
        sum_terms(False, x, active, weight, odd, p * terms, end, row, column, room, sums)
        hand_out(sums, room, row, column, out.shape[1], bias, False, odd, out[p])

    @bounded(count, together)
    def multiply_columns(x, active, d, terms, odd, parts, dweight, dbias, add):
        """Eqs. (2) and (3) of dense.py for x (R, I) or active (R, ceil(I/64)) and d (R, O).

        parts (P, I + 1, O) is written in full, each of P over its share of the rows; if None, dweight and dbias are.
        """
        room = cuda.shared.array(room_shape, d.dtype)
        sums = cuda.local.array(sums_shape, d.dtype)
        row, column, p = size * cuda.blockIdx.x, size * cuda.blockIdx.y, cuda.blockIdx.z
        inputs, end = dweight.shape[0], min((p + 1) * terms, d.shape[0])
        total = sum_terms(True, x, active, d, odd, p * terms, end, row, column, room, sums)
        if parts is None:
            hand_out(sums, room, row, column, inputs, None, add, odd, dweight)
        else:
            hand_out(sums, room, row, column, inputs, None, False, odd, parts[p])
        if row == 0:
            thread, c = cuda.threadIdx.x, column + cuda.threadIdx.x
            cuda.syncthreads()
            room[thread // size, thread % size] = total
            cuda.syncthreads()
            if thread < size and c < d.shape[1]:
                for k in range(1, count // size):
                    total += room[k, thread]
                if parts is None:
                    dbias[c] = dbias[c] + total if add else total
                else:
                    parts[p, inputs, c] = total

    for made in (multiply_rows, multiply_columns):
        made.__name__ += f"_{size}_tf32" if tensor else f"_{size}"
    shape = {"down": size, "across": size, "step": step, "count": count, "together": together}
    return SimpleNamespace(**shape, rows=multiply_rows, columns=multiply_columns)
