"""Batches cut out of the images in memory, where a pixel may be one byte, into floats.

Pixel p becomes (1) x = (p / unit - mean) / std, in this order and in the precision of x, as torchvision does.
"""

from ._compile import kernel


@kernel(lambda images, labels, indices, *_: indices.shape[0], grain=256)  # fewer are not worth a second thread
def gather(begin, end, images, labels, indices, unit, mean, std, x, y):
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
    for b in range(begin, end):
        n = indices[b]
        y[b] = labels[n]
        for p in range(images.shape[1]):
            x[b, p] = images[n, p]
            x[b, p] = (x[b, p] / unit - mean) / std
