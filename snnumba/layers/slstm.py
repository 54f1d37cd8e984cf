"""Spiking LSTM cells; the equations are in kernels/rules.py, the time loops in kernels/cpu/lstm.py."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_flag
from ..kernels import rules
from ..quant import StateQuant
from ..surrogate import Surrogate
from .base import Array, Spikes, check_size
from .linear import uniform
from .spiking import Spiking


class SLSTM(Spiking):
    """Spiking long short-term memory: LSTM cells whose output h, the membrane, spikes above a threshold theta.

    With input x, cell c and gates i, f, g, o:

        i, f, g, o = sig, sig, tanh, sig of the four parts of x Wih^T + bih + h[t-1] Whh^T + bhh
        c[t] = f c[t-1] + i g,      h[t] = o tanh(c[t]),      s[t] = H(h[t] - theta)

    Parameters
    ----------
    input_size, hidden_size : int
    bias : bool                     whether there are biases
    threshold : float or array      theta; an array is (hidden_size,)
    spike_grad : Surrogate          the surrogate gradient; default atan(alpha=2)
    surrogate_disable : bool        no gradient through the spike at all
    init_hidden : bool              calls keep the state in the layer: spk = layer(x)
    inhibition : bool               of each sample only the cell with the largest h - theta may spike
    learn_threshold : bool          whether theta is learnable
    reset_mechanism : str           at the step after a spike "subtract" theta from h, set it to "zero", or "none"
    state_quant : StateQuant        of functional.quant: c and h held to its levels
    output : bool                   with init_hidden, calls give c and h too
    dtype, seed : see Layer

    Named arrays: threshold, lstm_cell.weight_ih (4 H, I), lstm_cell.weight_hh (4 H, H), lstm_cell.bias_ih and
    lstm_cell.bias_hh (4 H,), drawn in this order from U(-k, k), k = 1/sqrt(H). Semantics and names of snnTorch 1.0's
    SLSTM, but for the state, which that loses at each step where input_size is not hidden_size, and inhibition, which
    that does not heed. Sources: Hochreiter and Schmidhuber 1997, Neural Computation 9(8), 1735-1780; Eshraghian et al.
    2023, arXiv:2109.12894.

    Raises
    ------
    TypeError, ValueError
        if an argument is out of its range.

    >>> cells = SLSTM(3, 4, threshold=0.05, seed=0)
    >>> spk, syn, mem = cells.forward(np.ones((10, 2, 3), np.float32))
    >>> spk.shape, syn.shape, mem.shape
    ((10, 2, 4), (10, 2, 4), (10, 2, 4))
    >>> cells.backward(dspk=np.ones_like(spk)).shape
    (10, 2, 3)

    Step by step, as in snnTorch:

    >>> syn, mem = cells.init_slstm()
    >>> for step in range(10):
    ...     spk, syn, mem = cells(np.ones(3), syn, mem)
    >>> spk.shape
    (4,)
    """

    states = ("syn", "mem")

    results = "dsyn0", "dmem0"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        threshold: npt.ArrayLike = 1.0,
        spike_grad: Surrogate | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        inhibition: bool = False,
        learn_threshold: bool = False,
        reset_mechanism: str = "none",
        state_quant: StateQuant | bool = False,
        output: bool = False,
        dtype: npt.DTypeLike | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            threshold,
            spike_grad,
            surrogate_disable,
            init_hidden,
            inhibition,
            learn_threshold,
            reset_mechanism,
            state_quant,
            output,
            dtype,
            seed,
        )
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = check_size("hidden_size", hidden_size)
        self.bias = check_flag("bias", bias)
        self.in_shape = (self.input_size,)
        self._fits({"threshold": self._threshold}, (self.hidden_size,))
        self.dsyn0: Array | None = None
        self.dmem0: Array | None = None

    def __repr__(self) -> str:
        return f"SLSTM({self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'})"

    @property
    def config(self) -> dict[str, Any]:
        sizes = {"input_size": self.input_size, "hidden_size": self.hidden_size, "bias": self.bias}
        return super().config | sizes

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(hidden_size,), for an input (input_size,)."""
        super().out_shape(shape)
        return (self.hidden_size,)

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        rows, n = 4 * self.hidden_size, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, self.input_size), "weight_hh": (rows, n)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        return super()._draw(rng) | {
            f"lstm_cell.{name}": (uniform(rng, shape, n), True) for name, shape in shapes.items()
        }

    def forward(self, x: Array, syn0: Array | None = None, mem0: Array | None = None) -> tuple[Array, Array, Array]:
        """Spikes, cells and membranes at all steps.

        Parameters
        ----------
        x : (T, B, input_size), or (T, input_size)
        syn0, mem0 : (B, hidden_size), or (hidden_size,)     the state before the first step; default: zeros

        Returns
        -------
        spk, syn, mem : (T, B, hidden_size), or (T, hidden_size)

        Raises
        ------
        TypeError, ValueError
            if an argument is not an array of the layer's dtype and such a shape.
        """
        self._build()
        leading = ("T",) if np.ndim(x) == 2 else ("T", "B")
        x = self._checked("x", x, *leading, self.input_size)
        made = (*x.shape[:-1], self.hidden_size)
        state = [
            None if s is None else self._checked(name, s, *made[1:]).reshape(-1, self.hidden_size)
            for name, s in (("syn0", syn0), ("mem0", mem0))
        ]
        spikes = self._over_time(x.reshape(len(x), -1, self.input_size), len(x), *state)
        self._tape["given shape"] = x.shape
        spk = self._as_floats(spikes)
        return spk.reshape(made), self._tape["syn"].reshape(made), self._tape["mem"].reshape(made)

    def backward(self, dspk: Array | None = None, dsyn: Array | None = None, dmem: Array | None = None) -> Array:
        """dL/dx from dL/dspk, dL/dsyn and dL/dmem, each of which may be left out; shapes as in forward.

        Fills gradients, and dsyn0 and dmem0, the gradients of the initial state.

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        TypeError, ValueError
            if an argument is not an array of the layer's dtype and forward's shape.
        """
        if "given shape" not in self._tape:
            raise RuntimeError("backward needs a forward pass before it")
        x_shape, whole = self._tape["given shape"], self._tape["mem"].shape
        shape = (*x_shape[:-1], self.hidden_size)
        given = {"dspk": dspk, "dsyn": dsyn, "dmem": dmem}
        for name, d in given.items():
            given[name] = None if d is None else self._checked(name, d, *shape).reshape(whole)
        self._prepare_back(True)
        dx = self._back_over_time(**given, input_gradient=True)
        self._learn_weights()
        self._finish_back()
        assert dx is not None
        assert self.dsyn0 is not None
        assert self.dmem0 is not None
        self.dsyn0, self.dmem0 = self.dsyn0.reshape(shape[1:]), self.dmem0.reshape(shape[1:])
        return dx.reshape(x_shape)

    def __call__(self, x: npt.ArrayLike, syn: npt.ArrayLike | None = None, mem: npt.ArrayLike | None = None) -> Any:
        """One step: spikes, cells and membranes; with init_hidden the spikes, and the others if output.

        x is (input_size,) or (B, input_size); numbers of another type are converted. syn and mem are the state after
        the step before; left out, what the last call left, or zeros where that has another shape.

        Raises
        ------
        TypeError, ValueError
            if syn or mem is given to a layer with init_hidden, or an argument has another shape.
        """
        return self._call(x, syn, mem)

    def init_slstm(self) -> tuple[Array, Array]:
        """Cells and membranes before the first step: zeros that fit any batch; reset_mem by snnTorch's older name."""
        syn, mem = self.reset_mem()
        return syn, mem

    @property
    def syn(self) -> Array:
        """The cells (T, B, hidden_size) of the last forward pass.

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        """
        if not self._tape:
            raise RuntimeError("syn needs a forward pass before it")
        syn: Array = self._tape["syn"]
        return syn

    def _steps(self, x: Array, *state: Array) -> tuple[Array, ...]:
        return self.forward(x, *state)

    def _state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], self.hidden_size)

    def _end(self) -> tuple[Array | None, ...]:
        return self._tape["syn"][-1], self._tape["mem"][-1]

    def _run(self, x: Array | Spikes, steps: int) -> Spikes:
        length = len(x.bits) if isinstance(x, Spikes) else len(x)
        start, self._start = self._start, ()
        spikes = self._over_time(x, length if length > 1 else steps, *start)
        if self._chained:
            self._start = self._end()
        return spikes

    def _run_back(self, dy: Array | None, input_gradient: bool, dmem: Array | None = None) -> Array | None:
        dsyn, later = (None, None) if self._window.more else self._later or (None, None)  # of a run of one step
        dx = self._back_over_time(dy, self._sum(dsyn, None), self._sum(dmem, later), input_gradient)
        self._later = (self.dsyn0, self.dmem0) if self._chained else ()
        return dx

    def _over_time(self, x: Array | Spikes, steps: int, syn0: Array | None = None, mem0: Array | None = None) -> Spikes:
        """All steps of x (T or 1, B, input_size): the spikes."""
        self._build()
        self._tape = {}  # lets go of its arrays
        work, dtype, kernels, n = self._work, self.dtype, self._kernels, self.hidden_size
        if isinstance(x, Spikes):
            active = x.bits
        else:
            active = work.empty("active", (*x.shape[:2], kernels.num_words(self.input_size)), np.uint64)
            kernels.find_active(x, active)
        batch = active.shape[1]
        bias = work.zeros((4 * n,), dtype)
        if self.bias:
            bias = work.empty("bias", (4 * n,), dtype)
            biases = (self._parameters[f"lstm_cell.{name}"].value for name in ("bias_ih", "bias_hh"))
            kernels.add_rows_of(*biases, bias)
        current = work.empty("current", (len(active), batch, 4 * n), dtype)
        threshold = self._row("threshold", (n,))
        zeros = work.zeros((batch, n), dtype)
        self._tape = {
            "x": None if isinstance(x, Spikes) else x,
            "active": active,
            "shape": (n,),
            "gates": work.empty("gates", (steps, batch, 4 * n), dtype),
            "syn": work.empty("syn", (steps, batch, n), dtype),
            "mem": work.empty("mem", (steps, batch, n), dtype),
            "spikes": Spikes(work.empty("spk", (steps, batch, kernels.num_words(n)), np.uint64), (n,)),
            "threshold": threshold,
            "winner": work.empty("winner", (self._blocks(batch), n), dtype) if self.inhibition else None,
            "syn0": zeros if syn0 is None else syn0,
            "mem0": zeros if mem0 is None else mem0,
            "still": len(active) < steps or self._window.still,
        }
        tape = self._tape
        kernels.linear_forward(tape["x"], active, self._parameters["lstm_cell.weight_ih"].value, bias, None, current)
        kernels.lstm_forward(
            current,
            self._parameters["lstm_cell.weight_hh"].value,
            threshold,
            self._levels(),
            tape["winner"],
            tape["syn0"],
            tape["mem0"],
            self.resets[self.reset_mechanism],
            tape["gates"],
            tape["syn"],
            tape["mem"],
            tape["spikes"].bits,
        )
        spikes: Spikes = tape["spikes"]
        return spikes

    def _prepare_back(self, input_gradient: bool) -> None:
        for name in ("weight_ih", "weight_hh")[not input_gradient :]:
            weight = self._parameters[f"lstm_cell.{name}"].value
            self._tape[name] = self._work.empty(f"transposed {name}", weight.shape[::-1], self.dtype)
            self._kernels.transpose(weight, self._tape[name])

    def _back_over_time(
        self, dspk: Array | None, dsyn: Array | None, dmem: Array | None, input_gradient: bool
    ) -> Array | None:
        """dL/dx, if wanted, with the time axis of x, from dL/d(spk, syn, mem) (T, B, N); fills dsyn0 and dmem0."""
        tape, work, dtype, n = self._tape, self._work, self.dtype, self.hidden_size
        self.dsyn0 = self.dmem0 = None
        for name in ("d", "before", "dcurrent"):
            tape.pop(name, None)
        steps, batch, _ = tape["mem"].shape
        blocks = self._blocks(batch)
        tape["d"] = work.empty("d", (steps, batch, 4 * n), dtype)
        self._partial("dthreshold", blocks, n)
        self.dsyn0, self.dmem0 = (self._partial(name, batch, n) for name in ("dsyn0", "dmem0"))
        none, function = work.zeros((1, 1, n), dtype), self.spike_grad.function
        backward = self._kernels.lstm_backward if function is None else self._kernels.lstm_backward_with(function)
        backward(
            *(none if d is None else d for d in (dspk, dsyn, dmem)),
            tape["weight_hh"],
            tape["threshold"],
            tape["winner"],
            tape["syn0"],
            tape["mem0"],
            tape["gates"],
            tape["syn"],
            tape["mem"],
            rules.NO_GRADIENT if self.surrogate_disable else self.spike_grad.kind,
            dtype.type(self.spike_grad.a),
            dtype.type(self.spike_grad.b),
            self.resets[self.reset_mechanism],
            self._more + rules.WANTED * self.learn_threshold,
            work.empty("surrogates", (blocks, n), dtype),
            tape["d"],
            self.dsyn0,
            self.dmem0,
            tape["dthreshold"],
        )
        tape["before"] = work.empty("before", (steps, batch, self._kernels.num_words(n)), np.uint64)
        self._kernels.find_active(tape["mem0"].reshape(1, batch, n), tape["before"][:1])
        self._kernels.find_active(tape["mem"][:-1], tape["before"][1:])
        tape["dcurrent"] = tape["d"]
        if tape["still"]:
            tape["dcurrent"] = self._partial("total", 1, batch, 4 * n)
            self._kernels.sum_over_time(tape["d"], tape["dcurrent"][0], self._window.more)
        if not input_gradient or (tape["still"] and self._window.first > 0):
            return None
        dx = work.empty("dx", (*tape["dcurrent"].shape[:2], self.input_size), dtype)
        self._kernels.linear_backward_input(tape["dcurrent"], tape["weight_ih"], dx)
        return dx

    def _learn_weights(self, add: bool = False) -> None:
        tape, work = self._tape, self._work
        gradients: list[Any] = [self._parameters[f"lstm_cell.{name}"].gradient for name in ("weight_ih", "weight_hh")]
        weights = [gradient.reshape(1, *gradient.shape) for gradient in gradients]  # of one part of the samples
        unused = work.empty("dbias", (1, 4 * self.hidden_size), self.dtype)
        bias: Any = self._parameters["lstm_cell.bias_ih"].gradient if self.bias else unused
        dbias = bias.reshape(unused.shape)
        learn = self._kernels.linear_backward
        if not tape["still"]:
            learn(tape["x"], tape["active"], tape["dcurrent"], weights[0], dbias, add)
        elif self._window.first == 0:
            learn(tape["x"], tape["active"], tape["dcurrent"], weights[0], dbias, add and not self._window.more)
        mem, before, d = tape["mem"], tape["before"], tape["d"]
        if len(mem) > 1:
            learn(mem[:-1], before[1:], d[1:], weights[1], unused, add)
        learn(tape["mem0"].reshape(mem[:1].shape), before[:1], d[:1], weights[1], unused, add or len(mem) > 1)

    def _finish_back(self, add: bool = False) -> None:
        self._learn("threshold", "dthreshold", add)
        if self.bias:
            dbias_ih, dbias_hh = (self._parameters[f"lstm_cell.{name}"].gradient for name in ("bias_ih", "bias_hh"))
            assert dbias_hh is not None
            self._kernels.copy(dbias_ih, dbias_hh)  # they are added, so they share it
