"""Why a kernel takes more than twice its floor: what the run itself measured, then what is known of its code.

The times in REASONS are of one thread of a Zen 4 core, found by varying one thing: how much is active, the steps, the
numbers in a row, the type, where the arrays fit. A vector is of 16 float32.
"""

from typing import Any

from .entry import Entry

HALF = 0.5  # of its floor: over it, nothing need be explained
WORD = "a word of 64 bits costs 6 to 10 ns (a branch that cannot be foreseen, sums loaded and stored), a row 1.2 to 1.5"
FOUR = "four words of 64 bits together cost 14 to 28 ns (as many sums as the fullest has bits, which is not foreseen)"
WRITTEN = "what is only written is read from memory first, unseen, and counted once"
STEP = "a vector takes three loads, a store and a mask beside the operations counted"
SAME = "with one sample, looking whether beta and theta are the same everywhere takes 5 us, as long as 8 steps"
SHORT = "a row of 10 numbers costs as much as a whole vector and more: its cut, its word of bits, its views: "
POOL = "a row of windows costs as much as a vector of 16, of which 14 or 7 are there: masks and shuffles, "

REASONS: tuple[tuple[str, str, str], ...] = (  # the kernel begins so, the size has that; the first that fits
    ("lif_forward linear", " N10 ", f"{SHORT}7 ns; {FOUR}"),
    ("lif_forward linear", "B1 N4096", "the rows chosen are brought from memory anew at every step"),
    ("lif_forward linear", "N4096", f"16 samples go through time together: each 16 bring W from memory anew; {WORD}"),
    ("lif_forward linear", " N128 ", "a branch for each word of 64 bits, 9 spikes, cannot be foreseen"),
    ("lif_forward linear", "", WORD + "; the sums of a step are written and read again before its neurons"),
    ("lif_forward conv2d", "", "all pixels are multiplied, and only the spikes counted: 1 vector of 16 in 10 is all 0"),
    ("lif_forward", " N10 ", SHORT + "7 ns"),
    ("lif_forward", "B1 N4096", SAME),
    ("lif_forward", "T10 B128 N128", f"{STEP}: 3 ns"),
    ("lif_forward", "", f"{WRITTEN}; {STEP}"),
    ("lif_backward linear", " N10 ", SHORT + "a product of 10 terms for 4 rows of one cut vector at a time"),
    ("lif_backward linear", "B1 N4096", "all of W is brought from memory at every step, and counted once"),
    ("lif_backward linear", "N4096", "all of W is brought from memory at every step by each thread, and counted once"),
    ("lif_backward linear", "B10 ", "what is loaded of W serves four samples, so 10 cost what 12 do"),
    ("lif_backward linear", "", "what is loaded of W serves four samples only"),
    ("lif_backward conv2d", "", "zeros around an image and between its rows are multiplied too; d comes from memory"),
    ("lif_backward", " N10 ", SHORT + "2 to 14 ns"),
    ("lif_backward", "B1 N4096", SAME),
    ("lif_backward", "T10 B128 N128", f"{STEP}, and has a division: 4 ns"),
    ("lif_backward", "", f"{WRITTEN}; {STEP}, and has a division"),
    ("lstm_forward", "", "exp and tanh one number at a time, there is no library of vectors: five a cell, 8 ns each"),
    ("lstm_backward", "", "tanh one number at a time, there is no library of vectors: one a cell, 10 ns"),
    ("linear_forward", " O10 ", f"rows of 10 numbers cost a whole vector; {FOUR}"),
    (
        "linear_forward",
        "O4096",
        f"all of W is brought from memory at every step by each thread, and counted once; {WORD}",
    ),
    ("linear_forward", "", f"{WORD}; x is gone through once for every 64 or 128 outputs"),
    ("linear_backward_input", " O10 ", "a sum of 10 terms is too short for its loads and stores"),
    ("linear_backward_input", "O4096", "W^T is brought from memory at every step by each thread, and counted once"),
    ("linear_backward_input", "", "four rows by four vectors need loads of both"),
    ("linear_backward", " O10 ", f"rows of 10 numbers cost a whole vector; {FOUR}"),
    ("linear_backward", "B1 ", "nearly all is dW set to 0, and bits of 64 rows gathered, of which one is there"),
    ("linear_backward", "", f"{WORD}; dW is read and written for every 64 rows"),
    ("conv_forward bits", "", "all pixels are multiplied, and only the spikes counted: 1 vector of 16 in 10 is all 0"),
    ("conv_backward bits", "", "all pixels are multiplied, and only the spikes counted: 1 vector of 16 in 10 is all 0"),
    ("conv_", "1x28x28", "25 terms a sum are few beside copying into zeros and adding to out: 400 terms come to 81%"),
    ("conv_", "", "zeros around an image and between its rows are multiplied too"),
    ("avg_pool_forward", "", POOL + "20 ns"),
    ("max_pool_forward", "", POOL + "16 to 20 ns"),
    ("max_pool_spikes", "", "bits are made floats, then pooled, then made bits again"),
    ("avg_pool_backward", "", POOL + "16 to 20 ns; dx is set to 0 first, then changed for each of four pixels"),
    ("max_pool_backward", "", POOL + "18 to 22 ns; dx is set to 0 first, then changed for each of four pixels"),
    ("dropout_forward", "", f"0.36 ns a number in cache, for ten operations on 64 bits; {WRITTEN}"),
    ("dropout_backward", "", f"0.36 ns a number in cache, for ten operations on 64 bits, 0.8 from memory; {WRITTEN}"),
    ("unpack", " N10 ", SHORT + "1.4 ns"),
    ("unpack", "", WRITTEN),
    ("count_forward", "", "the counts of all samples are read and written at every step: 49 GB/s of spikes, in cache"),
    ("count_backward", "", f"dx of all samples is read at every step, from the second cache; {WRITTEN}"),
    ("squared_error", "", "one number at a time, with a branch on the tolerance: 1.6 ns"),
    ("cross_entropy", "", "exp one number at a time, there is no library of vectors: 2.3 ns, and a log a sample"),
    ("gather", "", "two divisions a number, 0.12 ns each and counted as one operation, which takes 0.02"),
    ("adam", "", "a division and a root a number, 0.12 and 0.19 ns, counted as an operation each, which takes 0.02"),
)


def known(name: str, size: str) -> str | None:
    """What is known of a kernel at such a size."""
    return next((why for begin, part, why in REASONS if name.startswith(begin) and part in f"{size} "), None)


def reason(work: Entry, row: dict[str, Any], limits: Any, threads: int) -> str | None:
    """Why the measurements in a row are more than twice its floor; None: they are not, or there are none."""
    if row.get("share", 1.0) >= HALF:
        return None
    if row["best share"] >= HALF:
        return f"not in its least time, {row['best share']:.0%}: see the spread"
    empty = limits.calls[1 if work.at_once else threads]
    call = f"a call that does nothing takes {empty * 1e6:.2g} us"
    if empty > HALF * row["least"]:
        return call
    causes = [call] if empty > row["floor"] else []
    if work.at_once and threads > 1:
        causes.append(f"too few items for more than one of {threads} threads")
    most = limits.from_table(work.table_bytes) if work.table_bytes else 1.0
    if most < 0.9:  # the first cache does not hold it
        causes.append(
            f"rows of a table of {work.table_bytes / 1024:.0f} KB are added at {most:.0%} of the peak at most"
        )
    return "; ".join([*causes, known(work.name, work.size) or "no reason known"])
