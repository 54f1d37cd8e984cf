"""The losses. What reduction and weight do is in criteria.py, eqs. (6) and (7); D there is named in each.

Values are given for reduction "mean" without weights; K is how many classes there are, C without a population code.
"""

import numpy as np
import numpy.typing as npt

from ..checks import check_choice, check_flag
from ..layers.base import Array
from .checks import check_finite, check_numbers, check_population, check_rate
from .criteria import CrossEntropy, SquaredError, class_levels
from .readings import Counts, FirstSpikes, Peaks, Reading


class mse_count_loss(SquaredError):
    """Mean squared error of spike counts.

    The class of the label is to fire in correct_rate of the T steps, the others in incorrect_rate. With c the counts
    (B, K) and target int(T rate C/K): sum_BK (c - target)^2 / (B K T). D = T.

    Parameters
    ----------
    correct_rate, incorrect_rate : float in [0, 1]
    population_code : bool               several outputs stand for a class, and their spikes are counted together
    num_classes : int                    K, with population_code; class k has the k-th of K equal blocks of outputs
    reduction : "mean", "sum" or "none"
    weight : (K,) floats >= 0            times the squared errors of each class

    Raises
    ------
    TypeError, ValueError
        if an argument is not such; in a call, if num_classes does not divide C.

    Source: Shrestha and Orchard 2018, arXiv:1810.08646.

    >>> loss_fn = mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)
    >>> loss, dspk = loss_fn(np.ones((10, 1, 2), np.float32), [0])
    >>> loss, dspk.shape                    # counts 10, 10; targets 8, 2; (2^2 + 8^2) / (1 * 2 * 10)
    (3.4, (10, 1, 2))
    """

    def __init__(
        self,
        correct_rate: float = 1.0,
        incorrect_rate: float = 0.0,
        population_code: bool = False,
        num_classes: int | None = None,
        *,
        reduction: str = "mean",
        weight: npt.ArrayLike | None = None,
    ) -> None:
        self.population_code, self.num_classes = population_code, check_population(population_code, num_classes)
        super().__init__(Counts(self.num_classes), reduction, weight)
        self.correct_rate = check_rate("correct_rate", correct_rate)
        self.incorrect_rate = check_rate("incorrect_rate", incorrect_rate)

    def _divisor(self, steps: int) -> float:
        return steps

    def _levels(self, steps: int, outputs: int, classes: int) -> tuple[float, float]:
        share = outputs / classes
        return int(steps * self.correct_rate * share), int(steps * self.incorrect_rate * share)


class mse_membrane_loss(SquaredError):
    """Mean squared error of membranes, at every step: sum_TBC (mem - target)^2 / (T B C). D = T.

    The target is on_target for the neuron of the label and off_target for the others; as in snnTorch it is
    max(onehot on, off) where on > off, so a negative off_target becomes 0 then. Or the targets are a trajectory.

    Parameters
    ----------
    time_var_targets : bool              targets are a trajectory (T, B, C), a membrane for each step
    on_target, off_target : float        membrane levels
    reduction : "mean", "sum" or "none"
    weight : (C,) floats >= 0            times the squared errors of each neuron

    Raises
    ------
    TypeError, ValueError
        if an argument is not such; in a call, if a trajectory is not (T, B, C) finite numbers.

    >>> loss_fn = mse_membrane_loss(on_target=1.05, off_target=0.2)
    >>> loss, dmem = loss_fn(np.zeros((10, 1, 2)), [0])
    >>> round(loss, 5), dmem.shape        # (1.05^2 + 0.2^2) / 2
    (0.57125, (10, 1, 2))
    >>> trajectory = np.full((10, 1, 2), 0.5)
    >>> mse_membrane_loss(time_var_targets=True)(np.zeros((10, 1, 2)), trajectory)[0]
    0.25
    """

    output = "mem"

    def __init__(
        self,
        time_var_targets: bool = False,
        on_target: float = 1.0,
        off_target: float = 0.0,
        *,
        reduction: str = "mean",
        weight: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(Reading(), reduction, weight)
        self.time_var_targets = check_flag("time_var_targets", time_var_targets)
        self.on_target = check_finite("on_target", on_target)
        self.off_target = check_finite("off_target", off_target)

    def _divisor(self, steps: int) -> float:
        return steps

    @property
    def labelled(self) -> bool:
        return super().labelled and not self.time_var_targets

    def _levels(self, steps: int, outputs: int, classes: int) -> tuple[float, float]:
        return class_levels(self.on_target, self.off_target)

    def _target(self, targets: npt.ArrayLike, output: Array, classes: int) -> Array:
        if not self.time_var_targets:
            return super()._target(targets, output, classes)
        target = self._copied_target(check_numbers("targets", targets, output.shape), output.shape, output.dtype)
        return self._on_device(target)


class mse_temporal_loss(SquaredError):
    """Mean squared error of first-spike times: sum_BC ((f - target) / T)^2 / (B C). D = T^2.

    f counts steps from 0 and is T - 1 for a silent neuron. Its derivative is taken as -1 by the spike at f, a silent
    neuron's by what it gives at T - 1.

    Parameters
    ----------
    target_is_time : bool                targets are spike times, (B, C) or (C,); else labels
    on_target, off_target : float        the spike time of the label's neuron, and of the others; below 0, from T back
    tolerance : float >= 0               times nearer to their target than this cost nothing
    reduction : "mean", "sum" or "none"
    weight : (C,) floats >= 0            times the squared errors of each neuron

    As in snnTorch a target is max(onehot on, off) where on_target > off_target, so that the default off_target of -1
    becomes 0; for the last step give T - 1.

    Raises
    ------
    TypeError, ValueError
        if an argument is not such; in a call, if times are not (B, C) or (C,) finite numbers.

    >>> spk = np.zeros((10, 1, 2)); spk[3:, 0, 0] = 1
    >>> loss, dspk = mse_temporal_loss(on_target=0, off_target=9)(spk, [0])
    >>> loss, float(dspk[3, 0, 0])        # (3/10)^2 / 2, and -2 (3 - 0) / 10^2 / 2
    (0.045, -0.03)
    """

    def __init__(
        self,
        target_is_time: bool = False,
        on_target: float = 0.0,
        off_target: float = -1.0,
        tolerance: float = 0.0,
        *,
        reduction: str = "mean",
        weight: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(FirstSpikes(), reduction, weight)
        self.target_is_time = check_flag("target_is_time", target_is_time)
        self.on_target = check_finite("on_target", on_target)
        self.off_target = check_finite("off_target", off_target)
        self.tolerance = check_finite("tolerance", tolerance)
        if self.tolerance < 0:
            raise ValueError(f"tolerance must not be negative; got {tolerance!r}")

    def _divisor(self, steps: int) -> float:
        return steps * steps

    @property
    def labelled(self) -> bool:
        return super().labelled and not self.target_is_time

    # What is read is -f, so targets are turned round as well.
    def _levels(self, steps: int, outputs: int, classes: int) -> tuple[float, float]:
        on, off = (steps + t if t < 0 else t for t in class_levels(self.on_target, self.off_target))
        return -on, -off

    def _target(self, targets: npt.ArrayLike, output: Array, classes: int) -> Array:
        if not self.target_is_time:
            return super()._target(targets, output, classes)
        steps, *shape = output.shape
        times = check_numbers("targets", targets, tuple(shape), (classes,))
        target = self._copied_target(times, (1, *shape), output.dtype)
        negative = np.less(target, 0, out=self._host.empty("negative", target.shape, np.bool_))
        np.add(target, steps, out=target, where=negative)
        return self._on_device(np.negative(target, out=target))


class ce_rate_loss(CrossEntropy):
    """Cross-entropy of the spikes at each step: sum_TB (log sum_c exp spk - spk[label]) / (T B). D = T.

    Parameters
    ----------
    reduction : "mean", "sum" or "none"
    weight : (C,) floats >= 0            of the samples, by their label

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

    >>> loss, dspk = ce_rate_loss()(np.ones((10, 1, 2)), [0])
    >>> round(loss, 4), dspk.shape        # log 2
    (0.6931, (10, 1, 2))
    """

    def __init__(self, *, reduction: str = "mean", weight: npt.ArrayLike | None = None) -> None:
        super().__init__(Reading(), reduction, weight)

    def _divisor(self, steps: int) -> float:
        return steps


class ce_count_loss(CrossEntropy):
    """Cross-entropy of spike counts: with c the counts (B, K), sum_B (log sum_k exp c - c[label]) / B. D = 1.

    Parameters
    ----------
    population_code, num_classes :       as in mse_count_loss
    reduction : "mean", "sum" or "none"
    weight : (K,) floats >= 0            of the samples, by their label

    Raises
    ------
    TypeError, ValueError
        if an argument is not such; in a call, if num_classes does not divide C.

    >>> loss, dspk = ce_count_loss(population_code=True, num_classes=2)(np.ones((10, 1, 6)), [0])
    >>> round(loss, 4), dspk.shape        # log 2
    (0.6931, (10, 1, 6))
    """

    def __init__(
        self,
        population_code: bool = False,
        num_classes: int | None = None,
        *,
        reduction: str = "mean",
        weight: npt.ArrayLike | None = None,
    ) -> None:
        self.population_code, self.num_classes = population_code, check_population(population_code, num_classes)
        super().__init__(Counts(self.num_classes), reduction, weight)


class ce_max_membrane_loss(CrossEntropy):
    """Cross-entropy of peaks: with u = max_t mem (B, C), sum_B (log sum_c exp u - u[label]) / B. D = 1.

    The gradient is at the step of each peak, the first of equals.

    Parameters
    ----------
    reduction : "mean", "sum" or "none"
    weight : (C,) floats >= 0            of the samples, by their label

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

    Source: Neftci, Mostafa and Zenke 2019, arXiv:1901.09948.

    >>> loss, dmem = ce_max_membrane_loss()(np.ones((10, 1, 2)), [0])
    >>> round(loss, 4), np.flatnonzero(dmem[:, 0, 0])        # log 2
    (0.6931, array([0]))
    """

    output = "mem"

    def __init__(self, *, reduction: str = "mean", weight: npt.ArrayLike | None = None) -> None:
        super().__init__(Peaks(), reduction, weight)


class ce_temporal_loss(CrossEntropy):
    """Cross-entropy of how early each neuron spikes first: sum_B (log sum_c exp x - x[label]) / B. D = 1.

    x is -f or 1 / (f + 1); f and its derivative are as in mse_temporal_loss.

    Parameters
    ----------
    inverse : "negate" or "reciprocal"   x is -f, or 1 / (f + 1)
    reduction : "mean", "sum" or "none"
    weight : (C,) floats >= 0            of the samples, by their label

    Raises
    ------
    TypeError, ValueError
        if an argument is not such.

    >>> spk = np.zeros((10, 1, 2)); spk[3:] = 1
    >>> loss, dspk = ce_temporal_loss()(spk, [0])
    >>> round(loss, 4), dspk[3, 0]        # log 2
    (0.6931, array([-0.5,  0.5]))
    """

    def __init__(
        self, inverse: str = "negate", *, reduction: str = "mean", weight: npt.ArrayLike | None = None
    ) -> None:
        self.inverse = check_choice("inverse", inverse, ("negate", "reciprocal"))
        super().__init__(FirstSpikes(inverse == "reciprocal"), reduction, weight)
