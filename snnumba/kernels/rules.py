"""The scalar rules: every elementwise equation of the neurons and of the optimizer, once, for every target.

i current, u membrane, s spike, beta decay in [0, 1], theta threshold; all dimensionless, time counts steps.
H(x) = 1 if x > 0 else 0: a membrane exactly at the threshold does not spike.

One step, from the membrane u of the step before (i holds the input and the fed-back spikes):

    (1) r = H(u - theta)                                 a constant in the backward pass
    (2) m = beta u + i - r theta | (1 - r)(beta u + i) | (1 - r) beta u + i | beta u + i
                                                         reset: subtract | zero | clear (Leaky's zero) | none
    (3) s = H(m - theta)                                 with inhibition, 0 but for the neuron of largest m - theta
    (4) u' = m                                           reset_delay
        u' = m - (s - r) theta | m - (s - r) m | m       no reset_delay: subtract | zero, clear | none

with state_quant, m is the nearest of its levels before (3), as far as the forward pass goes; and back, from a_s = dL/ds
and a_u = dL/du' (direct, and from later steps), with h the surrogate's value at m - theta, 0 where inhibition made s 0:

    (5) a_m = a_u                                        reset_delay, or none
        a_s -= theta a_u;  a_m = a_u                     no reset_delay: subtract
        a_s -= m a_u;      a_m = (1 - (s - r)) a_u       no reset_delay: zero, clear
    (6) d = dL/di = f (a_m + h a_s)                      f = 1 - r for zero, else 1
    (7) dL/dtheta = -h a_s - r d - (s - r) a_u           the last two only where (2) and (4) subtract
    (8) dL/du = beta d,   dL/dbeta = d u                 with (1 - r) d in place of d for clear

A number in a rule takes its type from an argument, so that float32 stays float32 on every target.
Sources: Eshraghian et al. 2023, arXiv:2109.12894 (neuron); Kingma and Ba 2015, arXiv:1412.6980 (Adam).
"""

import math

SUBTRACT, ZERO, CLEAR, NONE = range(4)  # reset mechanisms

# Of a backward pass: whether it is to leave what neurons learn, summed over time; whether later steps were gone through
# before, so that it begins with what came back from them, and adds to their sums.
WANTED, MORE = 1, 2


def spike(x):
    """Eq. (3): H(x)."""
    return type(x)(x > 0)


def lif_potential(u, i, beta, theta, reset):
    """Eqs. (1) and (2): m."""
    if reset == SUBTRACT:
        return beta * u + i - spike(u - theta) * theta
    if reset == CLEAR:
        return beta * (u - spike(u - theta) * u) + i
    z = beta * u + i
    if reset == ZERO:
        return z - spike(u - theta) * z
    return z


def nearest(m, levels):
    """The level nearest to m, the lower of two as near; levels ascend, and a NaN stays one."""
    low, high = 0, levels.shape[0] - 1
    while low < high:
        middle = (low + high) // 2
        if m - levels[middle] > levels[middle + 1] - m:
            low = middle + 1
        else:
            high = middle
    return levels[low] if m == m else m


def lif_settle(m, s, r, theta, reset):
    """Eq. (4) without reset_delay: u'."""
    d = s - r
    if reset == SUBTRACT:
        return m - d * theta
    if reset == ZERO or reset == CLEAR:  # noqa: SIM109
        return m - d * m
    return m


def lif_unsettle(a_s, a_u, m, s, u, theta, reset, delay):
    """Eq. (5): a_s and a_m."""
    if delay or reset == NONE:
        return a_s, a_u
    if reset == SUBTRACT:
        return a_s - theta * a_u, a_u
    change = s - spike(u - theta)
    return a_s - m * a_u, a_u - change * a_u


def lif_adjoint(a_s, a_u, m, s, u, theta, h, reset, delay):
    """Eq. (6): d."""
    a_s, a_m = lif_unsettle(a_s, a_u, m, s, u, theta, reset, delay)
    d = a_m + h * a_s
    if reset == ZERO:
        d -= spike(u - theta) * d
    return d


def lif_dthreshold(a_s, a_u, m, s, u, theta, h, d, reset, delay):
    """Eq. (7): this step's part of dL/dtheta."""
    r = spike(u - theta)
    corrected, _ = lif_unsettle(a_s, a_u, m, s, u, theta, reset, delay)
    dtheta = -h * corrected
    if reset == SUBTRACT:
        dtheta -= r * d
        if not delay:
            dtheta -= (s - r) * a_u
    return dtheta


def lif_through_leak(d, u, theta, reset):
    """Eq. (8): what goes on to u, times beta, and to beta, times u."""
    if reset == CLEAR:
        return d - spike(u - theta) * d
    return d


# Spiking LSTM: cell c, which users see as syn, and output h, which is the membrane, from those of the step before.
#
#    (l1) i, f, o = sig(.), g = tanh(.) of the four parts of x Wih^T + h Whh^T + b
#    (l2) c' = f c + i g,   q = o tanh(c')
#    (l3) h' = q - r theta | (1 - r) q | q,   r = H(h - theta)       subtract | zero | none; r is a constant backward
#    (l4) s = H(h' - theta);   back, from a_s = dL/ds and a_h = dL/dh':  a = a_h + p a_s, p the surrogate's value,
#         dL/dtheta = -p a_s, and -r a where (l3) subtracts theta
#    (l5) a_q = (1 - r) a for zero, else a;   a_c += a_q o (1 - tanh(c')^2)
#    (l6) di = a_c g i (1 - i),  df = a_c c f (1 - f),  dg = a_c i (1 - g^2),  do = a_q tanh(c') o (1 - o)
#         dL/dc = f a_c,  dL/dh = (di, df, dg, do) Whh


def logistic(x):
    """Eq. (l1): sig(x) = 1 / (1 + exp(-x))."""
    return type(x)(1) / (type(x)(1) + math.exp(-x))


def lstm_cell(i, f, g, c):
    """Eq. (l2): c'."""
    return f * c + i * g


def lstm_output(o, c):
    """Eq. (l2): q, from c'."""
    return o * math.tanh(c)


def lstm_reset(q, h, theta, reset):
    """Eq. (l3): h'."""
    if reset == SUBTRACT:
        return q - spike(h - theta) * theta
    if reset == ZERO:
        return q - spike(h - theta) * q
    return q


def lstm_dthreshold(through, a, h, theta, reset):
    """Eq. (l4): this step's part of dL/dtheta; through is p a_s."""
    if reset == SUBTRACT:
        return -through - spike(h - theta) * a
    return -through


def lstm_through_reset(a, h, theta, reset):
    """Eq. (l5): a_q."""
    if reset == ZERO:
        return a - spike(h - theta) * a
    return a


def lstm_adjoint(a_c, a_q, squashed, i, f, g, o, c):
    """Eqs. (l5) and (l6): a_c, di, df, dg and do; squashed is tanh(c')."""
    one = type(i)(1)
    a_c += a_q * o * (one - squashed * squashed)
    return (
        a_c,
        a_c * g * i * (one - i),
        a_c * c * f * (one - f),
        a_c * i * (one - g * g),
        a_q * squashed * o * (one - o),
    )


# Surrogates: the derivative that stands for dH/dx in eq. (6). Each takes x and its two parameters a and b; x may be a
# vector (cpu/lanewise.py), so that no rule branches on it.


def atan(x, a, b):
    """(a/2) / (1 + (pi a x / 2)^2), a = alpha. Fang et al. 2021, arXiv:2007.05785."""
    y = type(x)(math.pi / 2) * a * x
    return type(x)(0.5) * a / (type(x)(1) + y * y)


def fast_sigmoid(x, a, b):
    """1 / (a |x| + 1)^2, a = slope. Zenke and Ganguli 2018, arXiv:1705.11146."""
    y = a * abs(x) + type(x)(1)
    return type(x)(1) / (y * y)


def sigmoid(x, a, b):
    """a e / (1 + e)^2 with e = exp(-|a x|), a = slope: cannot overflow."""
    e = math.exp(-abs(a * x))
    y = type(x)(1) + e
    return a * e / (y * y)


def straight_through_estimator(x, a, b):
    """1. Bengio et al. 2013, arXiv:1308.3432."""
    return type(x)(1)


def triangular(x, a, b):
    """a where x < 0, else -a, a = threshold: what snnTorch computes."""
    return a * (type(x)(x < 0) - type(x)(x >= 0))


def spike_rate_escape(x, a, b):
    """b exp(-a |x - 1|), a = beta, b = slope."""
    return b * math.exp(-a * abs(x - type(x)(1)))


def sfs(x, a, b):
    """[x > b] / (a |x| + 1)^2, a = slope, b = B."""
    y = a * abs(x) + type(x)(1)
    return type(x)(x > b) / (y * y)


def lso(x, a, b):
    """1 where x > 0, else a = slope."""
    s = type(x)(x > 0)
    return s + (type(x)(1) - s) * a


# The integers that choose a surrogate in the compiled kernels.
ATAN, FAST_SIGMOID, SIGMOID, STRAIGHT_THROUGH_ESTIMATOR, TRIANGULAR, SPIKE_RATE_ESCAPE, SFS, LSO, NO_GRADIENT = range(9)


def surrogate(x, kind, a, b):
    """The derivative h(x) of the surrogate that kind names."""
    if kind == ATAN:
        return atan(x, a, b)
    if kind == FAST_SIGMOID:
        return fast_sigmoid(x, a, b)
    if kind == SIGMOID:
        return sigmoid(x, a, b)
    if kind == STRAIGHT_THROUGH_ESTIMATOR:
        return straight_through_estimator(x, a, b)
    if kind == TRIANGULAR:
        return triangular(x, a, b)
    if kind == SPIKE_RATE_ESCAPE:
        return spike_rate_escape(x, a, b)
    if kind == SFS:
        return sfs(x, a, b)
    if kind == LSO:
        return lso(x, a, b)
    return type(x)(0)  # NO_GRADIENT: the plain step


# Optimizers: parameter p, gradient g, running averages m, v and b that begin at 0, steps t = 1, 2, ...
#
#    (a) Adam:  g += decay p,   m += (1 - beta1)(g - m),   v = beta2 v + (1 - beta2) g^2,
#               p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
#    (b) AdamW: p *= keep = 1 - lr decay, then (a) with decay = 0       Loshchilov and Hutter 2019, arXiv:1711.05101
#    (c) SGD:   g += decay p,   b = momentum b + g,   p -= lr b, or with nesterov lr (g + momentum b)
#    (d) clip:  g = min(max(g, -limit), limit)
#    (e) norm:  g *= min(1, limit / (|g| + 1e-6)),   |g|^2 = sum g^2


def adam(p, m, v, g, step, beta2, rest1, rest2, eps, keep, decay):
    """Eqs. (a) and (b): p, m, v after a step of size step = lr sqrt(1 - beta2^t) / (1 - beta1^t).

    eps is the user's times sqrt(1 - beta2^t). rest1 and rest2 are 1 - beta1 and 1 - beta2, which float32 could not
    tell to five digits from beta2 = 0.999.
    """
    p *= keep
    g += decay * p
    m += rest1 * (g - m)
    v = beta2 * v + rest2 * g * g
    return p - step * m / (math.sqrt(v) + eps), m, v


def sgd(p, b, g, lr, momentum, decay, nesterov):
    """Eq. (c): p and b after a step."""
    g += decay * p
    b = momentum * b + g
    if nesterov:
        g += momentum * b
        return p - lr * g, b
    return p - lr * b, b


def clamp(g, limit):
    """Eq. (d); a NaN stays one."""
    if g > limit:
        return limit
    if g < -limit:
        return -limit
    return g


def norm_factor(norm, limit):
    """Eq. (e): what the gradients are multiplied by, in float64; a NaN stays one."""
    factor = limit / (norm + type(norm)(1e-6))
    return type(norm)(1) if factor >= 1 else factor


# Random bits without a state: number n of a stream is the same whoever computes it.


def random_bits(key, n):
    """64 random bits: number n of the stream that a key begins, both uint64. splitmix64, Steele et al. 2014, OOPSLA."""
    z = key + (n + type(n)(1)) * type(n)(0x9E3779B97F4A7C15)
    z = (z ^ (z >> type(n)(30))) * type(n)(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> type(n)(27))) * type(n)(0x94D049BB133111EB)
    return z ^ (z >> type(n)(31))
