"""A net: layers in order, forward and backward over all time steps, its parameters in one flat vector."""

import inspect
import math
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

from . import backend, surrogate
from .layers.base import Array, Layer, check_dtype, check_seed, check_size
from .layers.conv2d import Conv2d
from .layers.dropout import Dropout
from .layers.flatten import Flatten
from .layers.leaky import Leaky
from .layers.linear import Linear
from .layers.pooling import AvgPool2d, MaxPool2d
from .layers.rleaky import RLeaky
from .layers.slstm import SLSTM
from .layers.spiking import Spiking
from .quant import StateQuant
from .windows import Windows

ALIGNMENT = 16  # each array begins at a multiple of this many numbers in the flat vector

RECORDS = ("spikes", "membrane", "count")
TAPE = 1 << 23  # numbers that a layer may keep of all steps of some samples, where there will be no backward pass

MOST_NESTED = 8  # feedbacks within feedbacks in a config

# What a config may name, and nothing else: a config can come from a file of unknown origin.
LAYERS: dict[str, type[Layer]] = {
    kind.__name__: kind for kind in (AvgPool2d, Conv2d, Dropout, Flatten, Leaky, Linear, MaxPool2d, RLeaky, SLSTM)
}


class Network:
    """Layers in order, each run over the whole of time before the next one.

    Parameters
    ----------
    layers : Layer                       the last one gives the net's output
    num_steps : int                      how often an input without a time axis is shown
    device : "cpu" or "cuda"             where it runs
    dtype : "float32" or "float64"
    seed : int                           layers without a seed of their own draw their weights from it, in order
    precision : "fp32" or "tf32"         on "cuda", and float32: with "tf32" large products of a Linear, and of the
                                         gradients of a weight whose inputs are no spikes, round their factors to 10
                                         bits after the point, for tensor cores; as device, no part of the config
    checkpoint_every : int               k, for less memory: layers keep the state of every k-th step, and the backward
                                         pass runs the others again; no part of the config, and can be set; see below

    With checkpoint_every=k, gradients are the same to the bit on the CPU, and up to rounding on a GPU. For N neurons of
    an RLeaky with a Linear before and after it, T steps of B samples in float32 take about

        4 B N 4 T bytes, and with checkpoint_every 4 B N (4 k + T/k + 2)

    for their currents, membranes, the gradients of both and of their spikes, and the states kept: least at k near
    sqrt(T)/2. A training step takes one more forward pass. Where k is T or more, nothing changes. `mem` of a layer is
    then that of some k steps only. Sources: Griewank and Walther 2000, ACM TOMS 26(1), 19-45; Chen et al. 2016,
    arXiv:1604.06174.

    Raises
    ------
    TypeError, ValueError
        if an argument is not such, or a layer does not take what the one before gives.

    >>> from snnumba import Linear, RLeaky
    >>> net = Network(Linear(3, 5), RLeaky(beta=0.9, linear_features=5), num_steps=7, seed=0)
    >>> spk, mem = net.forward(np.ones((2, 3), np.float32))
    >>> spk.shape
    (7, 2, 5)
    >>> net.backward(dspk=np.ones_like(spk))
    >>> list(net.gradients)
    ['0.weight', '0.bias', '1.recurrent.weight', '1.recurrent.bias']
    """

    def __init__(
        self,
        *layers: Layer,
        num_steps: int,
        device: str = "cpu",
        dtype: npt.DTypeLike = "float32",
        seed: int | None = None,
        precision: str = "fp32",
        checkpoint_every: int | None = None,
    ) -> None:
        self.layers = _check_layers(layers)
        self.checkpoint_every = checkpoint_every
        last = layers[-1]
        assert isinstance(last, Spiking)
        self._last = last
        self.num_steps = check_size("num_steps", num_steps)
        self.dtype = check_dtype(dtype) or np.dtype("float32")
        self._kernels = self._load(device, precision)
        self.device, self.precision = device, precision
        for k, layer in enumerate(self.layers):
            other = layer._not_of(self.dtype)
            if other is not None:
                raise ValueError(f"layer {k}, {other!r}, is {other._dtype}; the net is {self.dtype}")
        self.shapes = self.shapes_for(None)  # as far as they are known before the first sample
        rng = np.random.default_rng(check_seed(seed))
        for layer in self.layers:
            layer._build(self.dtype, rng)
        self._parts = {  # all layers, those inside others too
            f"{k}.{i}": part for k, layer in enumerate(self.layers) for i, part in enumerate(layer._all())
        }
        self._place()
        self._output: tuple[int, ...] | None = None  # the shape of what forward gave
        self._tapes: list[dict[str, Any]] = []  # of the layers, as forward left them
        self._windows: Windows | None = None  # that forward ran in
        self._x_shape: tuple[int, ...] = ()
        self._recorded: tuple[Any, ...] = ()  # the call of forward that _graph is of, and what that made
        self._graph: Any = None
        self._made: Any = None

    def __repr__(self) -> str:
        return f"Network({', '.join(map(repr, self.layers))}, num_steps={self.num_steps})"

    @property
    def checkpoint_every(self) -> int | None:
        """Of how many steps the state of one is kept; None: all are.

        Raises
        ------
        ValueError
            where it is set to something else than a positive integer or None.
        """
        return self._checkpoint_every

    @checkpoint_every.setter
    def checkpoint_every(self, steps: int | None) -> None:
        self._checkpoint_every = None if steps is None else check_size("checkpoint_every", steps)

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds the net but for its arrays, fit for JSON; where it runs is not part of it.

        Raises
        ------
        TypeError
            if a layer is of a kind that from_config does not know.
        """
        for k, layer in enumerate(self.layers):
            if type(layer) not in LAYERS.values():
                raise TypeError(f"layer {k} must be one of {', '.join(LAYERS)} to have a config; got {layer!r}")
        return {
            "layers": [layer.config for layer in self.layers],
            "num_steps": self.num_steps,
            "dtype": self.dtype.name,
        }

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        device: str = "cpu",
        precision: str = "fp32",
        state: Mapping[str, npt.ArrayLike] | None = None,
    ) -> Self:
        """A net of this config, with the arrays of `state`, or weights of its own, which load_state_dict replaces.

        Raises
        ------
        KeyError, TypeError, ValueError
            if something in the config is missing, not known or out of its range, or the state is not of such a net:
            then nothing of the sizes that the config names is made.

        >>> from snnumba import Linear, RLeaky
        >>> net = Network(Linear(3, 5), RLeaky(beta=0.9, linear_features=5), num_steps=7)
        >>> Network.from_config(net.config)
        Network(Linear(3, 5), RLeaky(beta=0.9, linear_features=5), num_steps=7)
        """
        _check_keys("the net's config", config, {"layers", "num_steps", "dtype"})
        layers = config["layers"]
        if not isinstance(layers, list):
            raise ValueError(f"the net's config must have a list of layers; got {layers!r}")
        made = [_layer_from_config(f"layer {k}", layer) for k, layer in enumerate(layers)]
        if state is not None:
            _check_shapes(made, state)
        net = cls(*made, num_steps=config["num_steps"], dtype=config["dtype"], device=device, precision=precision)
        if state is not None:
            net.load_state_dict(state)
        return net

    def shapes_for(self, shape: tuple[int, ...] | None) -> list[tuple[int, ...] | None]:
        """The shape of a sample and of what each layer makes of it; None where a shape is not known.

        Raises
        ------
        ValueError
            if a layer does not take what the one before gives.
        """
        shapes = [self.layers[0].in_shape if shape is None else shape]
        for k, layer in enumerate(self.layers):
            at = layer.in_shape if shapes[-1] is None else shapes[-1]
            try:
                shapes.append(None if at is None else layer.out_shape(at))
            except ValueError as error:
                raise ValueError(f"layer {k}: {error}") from None
        return shapes

    def to(self, device: str, precision: str = "fp32") -> Self:
        """Move the net to a device, "cpu" or "cuda", its work arrays left behind; returns the net.

        Raises
        ------
        ValueError
            if the device is not to be had, or not in this precision; the net stays where it is.
        """
        self._kernels = self._load(device, precision)
        self.device, self.precision = device, precision
        self._output, self._windows, self._recorded = None, None, ()
        self._place()
        return self

    def _load(self, device: str, precision: str) -> ModuleType:
        """The kernels for the net."""
        kernels = backend.load(device, precision)
        if precision == "tf32" and self.dtype != np.float32:
            raise ValueError(f'precision must be "fp32" for a net of {self.dtype}; got {precision!r}')
        return kernels

    def _place(self) -> None:
        """Bring the layers to the net's device: what is learnable into one vector, the gradients into another."""
        for layer in self.layers:
            layer._to(self._kernels)
        named = {f"{k}.{name}": p for k, layer in enumerate(self.layers) for name, p in layer._parameters.items()}
        learnable = {name: p for name, p in named.items() if p.gradient is not None}
        sizes = [-(-p.value.size // ALIGNMENT) * ALIGNMENT for p in learnable.values()]
        self.vector = self._kernels.aligned(sum(sizes), self.dtype)
        self.gradient_vector = self._kernels.aligned(sum(sizes), self.dtype)
        self._work = self._kernels.Workspace()
        flat = np.zeros(sum(sizes), self.dtype)
        for layer in self.layers:
            layer._in_net = True
        begin, self._begins = 0, dict[str, int]()
        for (name, parameter), size in zip(learnable.items(), sizes, strict=True):
            self._begins[name] = begin
            where, shape = slice(begin, begin + parameter.value.size), parameter.value.shape
            flat[where] = self._kernels.to_host(parameter.value).ravel()
            parameter.value = self.vector[where].reshape(shape)
            parameter.gradient = self.gradient_vector[where].reshape(shape)
            begin += size
        self._bounds = self._kernels.from_host(np.array([*self._begins.values(), begin], np.int64))
        self._kernels.write(flat, self.vector)

    @overload
    def forward(self, x: Array, num_steps: int | None = None, record: None = None) -> tuple[Array, Array]: ...

    @overload
    def forward(self, x: Array, num_steps: int | None = None, *, record: str) -> Array: ...

    def forward(self, x: Array, num_steps: int | None = None, record: str | None = None) -> tuple[Array, Array] | Array:
        """Spikes and membranes of the last layer at all steps.

        Parameters
        ----------
        x : (B, N) or (B, C, H, W)           shown at each step
            or (T, B, N) or (T, B, C, H, W)
        num_steps : int                      T, if it is not the net's
        record : str                         what is wanted where there will be no backward pass; memory for the steps
                                             of the layers is then that of a few samples, however many there are

        Returns
        -------
        spk, mem : (T, B, N) or (T, B, C, H, W) each. They stay as they are for as long as they are kept; if they are
            not, a later call uses their memory.
        With record "spikes" or "membrane", the one or the other; with "count" the spikes of each neuron, summed over
            the steps, (B, N) or (B, C, H, W).

        Raises
        ------
        TypeError, ValueError
            if x is not an array of the net's dtype and such a shape, or record is another word.

        >>> from snnumba import RLeaky
        >>> net = Network(RLeaky(beta=0.9, linear_features=2), num_steps=7, seed=0)
        >>> net.forward(np.ones((1, 2), np.float32), record="count")
        array([[7., 4.]], dtype=float32)
        """
        if record is not None and not (isinstance(record, str) and record in RECORDS):
            raise ValueError(f"record must be one of {', '.join(RECORDS)}, or None; got {record!r}")
        steps = self.num_steps if num_steps is None else check_size("num_steps", num_steps)
        x = self._check(x, steps)
        signal: Any = x if x.ndim in (3, 5) else x.reshape(1, *x.shape)
        self._check_carried(signal.shape[1])
        self._output, self._tapes, self._windows = None, [], None
        if record is not None:
            return self._record(signal, steps, record)
        if self.checkpoint_every is not None and self.checkpoint_every < steps:
            windows = Windows(self, signal, steps, self.checkpoint_every)
            spk, mem = windows.forward()
            self._output, self._x_shape, self._windows = spk.shape, x.shape, windows
            self._tapes = [layer._tape for layer in self.layers]
            return spk, mem
        with self._kernels.team.together():  # over samples
            for layer in self.layers:
                signal = layer._run(signal, steps)
            spk = self._last._as_floats(signal)
        self._output, self._x_shape = spk.shape, x.shape
        self._tapes = [layer._tape for layer in self.layers]
        return spk, self._last.mem

    def _check(self, x: Any, steps: int) -> Array:
        """x, if it is an input of so many steps, or of one that is shown at each."""
        kernels = self._kernels
        x = kernels.as_array("x", x)
        timed = x.ndim in (3, 5)
        sample = self.layers[0].in_shape or x.shape[1 + timed :]
        name, leading = ("x, time first,", (steps, "B")) if timed else ("x", ("B",))
        x = kernels.check_array(name, x, self.dtype, (*leading, *sample))
        if sample != self.shapes[0]:
            self.shapes = self.shapes_for(sample)
        checked: Array = x
        return checked

    def _record(self, x: Array, steps: int, record: str) -> Array:
        """What `record` names of the last layer, for x (T or 1, B, *sample), a few samples at a time."""
        batch, shape = x.shape[1], self.shapes[-1]
        assert shape is not None
        most = max(math.prod(made) for made in self.shapes if made is not None)
        size = max(32, min(1024, TAPE // (steps * most) // 32 * 32))
        if any(part._whole_batch for part in self._parts.values()):
            size = batch
        made: Array = self._work.empty(
            record, (batch, *shape) if record == "count" else (steps, batch, *shape), self.dtype
        )
        for begin in range(0, batch, size):
            some = slice(begin, min(begin + size, batch))
            signal = x if size >= batch else self._some(x, some)
            call = signal.shape, steps, record, self._settings
            if call != self._recorded:
                self._recorded, self._made = call, None
                self._graph = self._kernels.Graph(partial(self._run_for, record, steps))
            self._graph(signal)
            if record == "count":
                self._kernels.copy(self._made, made[some])
            elif size >= batch:
                self._kernels.copy(self._made, made)
            else:
                made[:, some] = self._made
        return made

    def _run_for(self, record: str, steps: int, x: Array) -> None:
        """Run the layers, and keep nothing but what is recorded, as _made."""
        signal: Any = x
        with self._kernels.team.together():  # over samples
            for layer in self.layers:
                signal = layer._run(signal, steps)
            if record == "count":
                self._made = self._work.empty("made", (x.shape[1], *(self.shapes[-1] or ())), self.dtype)
                self._last._count(signal, self._made)
            elif record == "membrane":
                self._made = self._last.mem
            else:
                self._made = self._last._as_floats(signal)
        for layer in self.layers:
            layer._tape = {}

    @property
    def _pass(self) -> tuple[Any, ...]:
        """The pass that the net is at: what the last forward left for backward and others."""
        return self._output, self._x_shape, self._windows, self._tapes

    @_pass.setter
    def _pass(self, state: tuple[Any, ...]) -> None:
        self._output, self._x_shape, self._windows, self._tapes = state
        for layer, tape in zip(self.layers, self._tapes, strict=True):
            layer._tape = tape

    @property
    def _settings(self) -> object:
        """What a pass depends on beside its input and what arrays hold; of its own for one that begins at a state."""
        if any(layer._start for layer in self.layers):
            return object()
        return self.num_steps, self.checkpoint_every, sum(part._changes for part in self._parts.values())

    def _some(self, x: Array, some: slice) -> Array:
        """Some samples of x (T or 1, B, *sample)."""
        if len(x) == 1:
            return x[0, some].reshape(1, some.stop - some.start, *x.shape[2:])
        part: Array = self._work.empty("some", (len(x), some.stop - some.start, *x.shape[2:]), self.dtype)
        part[:] = x[:, some]
        return part

    def backward(
        self, dspk: Array | None = None, dmem: Array | None = None, *, input_gradient: bool = False
    ) -> Array | None:
        """Fill gradients from dL/dspk or dL/dmem of the output, or both.

        Parameters
        ----------
        dspk, dmem : (T, B, ...)            as forward gave spk and mem
        input_gradient : bool               whether dL/dx, in the shape of x, is wanted; it is returned

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        TypeError, ValueError
            if neither is given, or one is not an array of the net's dtype and the shape of the output.
        """
        self._check_forward("backward")
        assert self._output is not None
        if dspk is None and dmem is None:
            raise ValueError("dspk or dmem must be given; got neither")
        if dspk is not None:
            dspk = self._kernels.check_array("dspk", dspk, self.dtype, self._output)
        if dmem is not None:
            dmem = self._kernels.check_array("dmem", dmem, self.dtype, self._output)
        if self._windows is not None:
            dx = self._windows.backward(dspk, dmem, input_gradient)
            return None if dx is None else dx.reshape(self._x_shape)
        wanted = [input_gradient or k > 0 for k in range(len(self.layers))]
        with self._kernels.team.together():  # over weights
            for layer, want in zip(self.layers, wanted, strict=True):
                layer._prepare_back(want)
        with self._kernels.team.together():  # over samples
            dy = self._last._run_back(dspk, wanted[-1], dmem)
            for k in range(len(self.layers) - 2, -1, -1):
                assert dy is not None
                dy = self.layers[k]._run_back(dy, wanted[k])
        with self._kernels.team.together():  # over weights
            for layer in self.layers:
                layer._learn_weights()
        with self._kernels.team.together():  # over weights, and blocks and parts of samples
            for layer in self.layers:
                layer._finish_back()
        return None if dy is None else dy.reshape(self._x_shape)

    def detach(self) -> None:
        """Let the next forward pass begin at the state that the last one ended at, which is a constant to its gradient.

        So a long run is trained in windows of a few steps, by truncated backpropagation through time:

        >>> from snnumba import Linear, RLeaky, functional as SF, optim
        >>> net = Network(Linear(3, 2), RLeaky(beta=0.9, linear_features=2), num_steps=5, seed=0)
        >>> loss_fn, optimizer = SF.mse_count_loss(), optim.Adam(net)
        >>> x, y = np.ones((20, 4, 3), np.float32), np.array([0, 1, 0, 1])
        >>> for window in np.split(x, 4):
        ...     loss, dspk = loss_fn(net.forward(window)[0], y)
        ...     net.backward(dspk=dspk)
        ...     optimizer.step()
        ...     net.detach()
        >>> net.reset()  # the next run begins at rest

        Raises
        ------
        RuntimeError
            if there was no forward pass.

        Source: Williams and Peng 1990, Neural Computation 2(4), 490-501.
        """
        self._check_forward("detach")
        for layer in self.layers:
            if isinstance(layer, Spiking):
                layer._start = layer._end() if self._windows is None else self._windows.end(layer)

    def reset(self) -> None:
        """Let the next forward pass begin at rest, as every one does that has no detach before it."""
        for layer in self.layers:
            if isinstance(layer, Spiking):
                layer._start = ()

    def _check_forward(self, name: str) -> None:
        """Refuse what needs the layers as forward left them."""
        if self._output is None:
            raise RuntimeError(f"{name} needs a forward pass before it")
        for k, (layer, tape) in enumerate(zip(self.layers, self._tapes, strict=True)):
            if layer._tape is not tape:
                raise RuntimeError(f"{name} needs a forward pass before it: layer {k}, {layer!r}, was run alone since")

    def _check_carried(self, batch: int) -> None:
        """Refuse to go on, after detach, with another number of samples."""
        for k, layer in enumerate(self.layers):
            for state in layer._start:
                if state is not None and len(state) != batch:
                    raise ValueError(f"x must have {len(state)} samples, as layer {k} had at detach(); got {batch}")

    def train(self, mode: bool = True) -> Self:
        """Let layers that differ while they are trained, such as Dropout, do as then, or not; returns the net."""
        for part in self._parts.values():
            part.training = bool(mode)
        return self

    def eval(self) -> Self:
        """train(False)."""
        return self.train(False)

    @property
    def training(self) -> bool:
        """What train was last called with; at first True."""
        return self._last.training

    def firing_rates(self) -> dict[str, float]:
        """Of each spiking layer, the share of neurons and steps that spiked in the last forward pass.

        Names are "<index of the layer>"; a rate lies in [0, 1].

        Raises
        ------
        RuntimeError
            if there was no forward pass, or a layer was run alone since.
        """
        self._check_forward("firing_rates")
        return {str(k): layer.firing_rate() for k, layer in enumerate(self.layers) if isinstance(layer, Spiking)}

    @property
    def parameters(self) -> dict[str, Array]:
        """What is learnable, "0.weight" and so on: views in torch's layout; writing to them changes the net."""
        return {f"{k}.{name}": x for k, layer in enumerate(self.layers) for name, x in layer.parameters.items()}

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradients that the last backward pass left, named and laid out as the parameters."""
        return {f"{k}.{name}": x for k, layer in enumerate(self.layers) for name, x in layer.gradients.items()}

    def array_at(self, index: int) -> str:
        """The name of the learnable array that number `index` of the flat vectors is of."""
        return max((begin, name) for name, begin in self._begins.items() if begin <= index)[1]

    def state_dict(self) -> dict[str, Array]:
        """Copies of all arrays, learnable or not, with torch's names and layouts."""
        return {f"{k}.{name}": x for k, layer in enumerate(self.layers) for name, x in layer.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Take over arrays by name, such as state_dict gives, or those of a torch.nn.Sequential as NumPy arrays.

        Raises
        ------
        TypeError
            if state is not a mapping of names.
        KeyError
            if a name is missing or not known, before anything is changed.
        ValueError
            if an array has another shape, or does not hold finite numbers, before anything is changed.
        """
        if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
            raise TypeError(f"state must be a mapping of names to arrays; got {type(state).__name__}")
        unknown = [name for name in state if name.split(".")[0] not in map(str, range(len(self.layers)))]
        if unknown:
            raise KeyError(f"state has {unknown[0]}, which is of none of the layers 0 to {len(self.layers) - 1}")
        checked = [layer._checked_state(state, f"{k}.") for k, layer in enumerate(self.layers)]
        for layer, arrays in zip(self.layers, checked, strict=True):
            layer._assign(arrays)

    def random_state(self) -> dict[str, Array]:
        """Copies of what the next random numbers follow from, such as Dropout's; they are not in state_dict."""
        states = {name: part._random() for name, part in self._parts.items()}
        return {name: state for name, state in states.items() if state is not None}

    def load_random_state(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Take over what random_state gave, so that the same numbers are drawn as there.

        Raises
        ------
        ValueError
            if it is not of such a net, before anything is changed.
        """
        arrays, ours = {name: np.asarray(x) for name, x in state.items()}, self.random_state().keys()
        if arrays.keys() != ours:
            of, seen = (", ".join(sorted(names)) or "none" for names in (ours, arrays))
            raise ValueError(f"the random state must be that of the layers {of}; got {seen}")
        for name, x in arrays.items():
            if x.shape != (2,) or x.dtype != np.uint64:
                raise ValueError(f"the random state of {name} must be (2,) uint64; got {x.dtype} {x.shape}")
        for name, x in arrays.items():
            self._parts[name]._set_random(x)


def check_net(net: Any) -> Network:
    """net, if it is a Network."""
    if not isinstance(net, Network):
        raise TypeError(f"net must be a Network; got {type(net).__name__}")
    return net


def _check_layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers, if each is one and occurs once, and the last one spikes."""
    for k, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must be snnumba layers; argument {k} is {layer!r}")
        if any(layer is other for other in layers[:k]):
            raise ValueError(f"layer {k}, {layer!r}, is in the net twice")
        if layer._in_net:
            raise ValueError(f"layer {k}, {layer!r}, is in another net already: its arrays lie there")
    if not layers or not isinstance(layers[-1], Spiking):
        raise ValueError(f"the last layer must be a spiking one; got {layers[-1] if layers else 'no layer'}")
    return layers


class _Shapes:
    """Stands for random numbers where only the shapes of what is drawn are wanted: its arrays take no memory."""

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(np.float64(0), shape)

    def integers(self, most: int, dtype: Any) -> Any:
        return dtype(0)


def _check_shapes(layers: list[Layer], state: Mapping[str, npt.ArrayLike]) -> None:
    """Refuse layers, not yet built, that have other arrays than a state."""
    shapes: Any = _Shapes()
    for k, layer in enumerate(layers):
        for name, (drawn, _) in layer._draw(shapes).items():
            if f"{k}.{name}" not in state:
                raise KeyError(f"state lacks {k}.{name}; it has {', '.join(sorted(state)) or 'nothing'}")
            shape = np.shape(state[f"{k}.{name}"])
            if shape != np.shape(drawn):
                raise ValueError(f"{k}.{name} must be {np.shape(drawn)}; got {shape}")


def _check_keys(name: str, config: Any, keys: set[str]) -> None:
    """Refuse what is not a mapping with these keys."""
    if not isinstance(config, Mapping) or config.keys() != keys:
        seen = ", ".join(map(repr, config)) if isinstance(config, Mapping) else repr(config)
        raise ValueError(f"{name} must have {', '.join(sorted(keys))}; got {seen or 'nothing'}")


def _layer_from_config(where: str, config: Any, depth: int = 0) -> Layer:
    """The layer that `config` of a layer describes."""
    kind = config.get("layer") if isinstance(config, Mapping) else None
    if not isinstance(kind, str) or kind not in LAYERS:
        raise ValueError(f"{where} must be one of {', '.join(LAYERS)}; got {kind!r}")
    arguments = {name: value for name, value in config.items() if name != "layer"}
    try:
        inspect.signature(LAYERS[kind]).bind(**arguments)
        if "spike_grad" in arguments:
            arguments["spike_grad"] = _surrogate_from_config(arguments["spike_grad"])
        if isinstance(arguments.get("state_quant"), list):
            arguments["state_quant"] = StateQuant(arguments["state_quant"])
        recurrent = arguments.get("recurrent")
        if recurrent is not None:
            if depth == MOST_NESTED:
                raise ValueError(f"recurrent must not be nested more than {MOST_NESTED} deep")
            parts = recurrent if isinstance(recurrent, list) else [recurrent]
            made = [_layer_from_config("recurrent", part, depth + 1) for part in parts]
            arguments["recurrent"] = made if isinstance(recurrent, list) else made[0]
        return LAYERS[kind](**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}, {kind}: {error}") from None


def _surrogate_from_config(config: Any) -> surrogate.Surrogate:
    """The surrogate gradient that the config of a layer describes."""
    _check_keys("spike_grad", config, {"name", "a", "b"})
    name, a, b = config["name"], config["a"], config["b"]
    if not isinstance(name, str) or name not in surrogate.KINDS:
        raise ValueError(f"spike_grad must be one of {', '.join(surrogate.KINDS)}; got {name!r}")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in (a, b)):
        raise ValueError(f"a and b of spike_grad must be finite numbers; got {a!r} and {b!r}")
    return surrogate.Surrogate(name, a, b)
