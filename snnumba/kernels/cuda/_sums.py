"""Sums over the threads of a block, in an order that is always the same."""

from ._driver import cuda, part


@part
def total_of(mine, shared):
    """The sum of what the threads of a block have, in order; the first thread gets it.

    shared has room for a number a thread. Before it is used again there must be a barrier.
    """
    shared[cuda.threadIdx.x] = mine
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for k in range(1, cuda.blockDim.x):
            mine += shared[k]
    return mine
