"""Batches cut out of the images in memory, where a pixel may be one byte, into floats.

Pixel p becomes (1) x = (p / unit - mean) / std, in this order and in the precision of x, as torchvision does.
"""

from ._driver import cuda, elementwise


@elementwise(lambda images, labels, indices, *_: indices.shape[0] * images.shape[1])
def gather(images, labels, indices, unit, mean, std, x, y):
    """Copy the images, by (1), and the labels at `indices`.

    Parameters
    ----------
    images : (N, P) uint8 or float
    labels : (N,) int64
    indices : (B,) int64                     each in [0, N)
    unit, mean, std : of the dtype of x
    x : (B, P) float                         written in full
    y : (B,) int64                           written in full
    """
    b, p = divmod(cuda.grid(1), images.shape[1])
    if b < indices.shape[0]:
        n = indices[b]
        if p == 0:
            y[b] = labels[n]
        x[b, p] = (type(unit)(images[n, p]) / unit - mean) / std


__all__ = ["gather"]
