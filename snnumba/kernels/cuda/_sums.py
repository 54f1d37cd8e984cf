"""Sums over the threads of a block, in an order that is always the same."""

from ._driver import cuda, part


@part
def total_of(mine, shared):
    """The sum of what the threads of a block have, as a tree of pairs; the first thread gets it.

    shared has room for a number a thread. Before it is used again there must be a barrier.
    """
    thread, left = cuda.threadIdx.x, cuda.blockDim.x
    shared[thread] = mine
    cuda.syncthreads()
    while left > 1:
        half = (left + 1) // 2
        if thread < left - half:
            shared[thread] += shared[thread + half]
        cuda.syncthreads()
        left = half
    return shared[0]
