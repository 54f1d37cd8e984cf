"""A net: layers in order, forward and backward over all time steps, its parameters in one flat vector."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from . import backend
from .layers.base import Array, Layer, Spikes, check_array, check_dtype, check_size
from .layers.rleaky import RLeaky

ALIGNMENT = 16  # each array begins at a multiple of this many numbers in the flat vector


class Network:
    """Layers in order, each run over the whole of time before the next one.

    Parameters
    ----------
    layers : Layer                       the last one gives the net's output
    num_steps : int                      how often an input without a time axis is shown
    device : str                         "cpu"
    dtype : "float32" or "float64"
    seed : int                           layers without a seed of their own draw their weights from it, in order

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
    ) -> None:
        self.layers = _check_layers(layers)
        last = layers[-1]
        assert isinstance(last, RLeaky)
        self._last = last
        self.num_steps = check_size("num_steps", num_steps)
        self.device = device
        kernels = backend.load(device)
        found = check_dtype(dtype)
        assert found is not None
        self.dtype = found
        rng = np.random.default_rng(seed)
        for k, layer in enumerate(self.layers):
            layer._build(found, rng)
            layer._kernels = kernels
            if layer.dtype != found:
                raise ValueError(f"layer {k}, {layer!r}, is {layer.dtype}; the net is {found}")
        self._flatten()
        self._output: tuple[int, ...] | None = None  # the shape of what forward gave
        self._x_shape: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"Network({', '.join(map(repr, self.layers))}, num_steps={self.num_steps})"

    def _flatten(self) -> None:
        """Move what is learnable into one vector, and the gradients into another; layers keep views."""
        learnable = [p for layer in self.layers for p in layer._parameters.values() if p.gradient is not None]
        sizes = [-(-p.value.size // ALIGNMENT) * ALIGNMENT for p in learnable]
        self.vector = np.zeros(sum(sizes), self.dtype)
        self.gradient_vector = np.zeros_like(self.vector)
        begin = 0
        for parameter, size in zip(learnable, sizes, strict=True):
            where, shape = slice(begin, begin + parameter.value.size), parameter.value.shape
            self.vector[where] = parameter.value.ravel()
            parameter.value = self.vector[where].reshape(shape)
            parameter.gradient = self.gradient_vector[where].reshape(shape)
            begin += size

    def forward(self, x: Array) -> tuple[Array, Array]:
        """Spikes and membranes of the last layer at all steps.

        Parameters
        ----------
        x : (B, features)                   shown at each of num_steps steps
            or (T, B, features)             T = num_steps

        Returns
        -------
        spk, mem : (T, B, N) each. They stay as they are for as long as they are kept; if they are not, a later call
            uses their memory.

        Raises
        ------
        TypeError, ValueError
            if x is not an array of the net's dtype and such a shape.
        """
        features = self.layers[0].in_features
        if np.ndim(x) == 3:
            signal: Array | Spikes = check_array("x, time first,", x, self.dtype, (self.num_steps, "B", features))
        else:
            signal = check_array("x", x, self.dtype, ("B", features))[None]
        self._output = None
        for layer in self.layers:
            signal = layer._run(signal, self.num_steps)
        assert isinstance(signal, Spikes)
        self._output = (self.num_steps, signal.bits.shape[1], signal.size)
        self._x_shape = np.shape(x)
        return self._last._unpacked(signal), self._last.mem

    def backward(
        self, dspk: Array | None = None, dmem: Array | None = None, *, input_gradient: bool = False
    ) -> Array | None:
        """Fill gradients from dL/dspk or dL/dmem of the output, or both.

        Parameters
        ----------
        dspk, dmem : (T, B, N)              as forward gave spk and mem
        input_gradient : bool               whether dL/dx, in the shape of x, is wanted; it is returned

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        TypeError, ValueError
            if neither is given, or one is not an array of the net's dtype and the shape of the output.
        """
        if self._output is None:
            raise RuntimeError("backward needs a forward pass before it")
        if dspk is None and dmem is None:
            raise ValueError("dspk or dmem must be given; got neither")
        if dspk is not None:
            dspk = check_array("dspk", dspk, self.dtype, self._output)
        if dmem is not None:
            dmem = check_array("dmem", dmem, self.dtype, self._output)
        dy = self._last._run_back(dspk, len(self.layers) > 1 or input_gradient, dmem)
        for k in range(len(self.layers) - 2, -1, -1):
            assert dy is not None
            dy = self.layers[k]._run_back(dy, k > 0 or input_gradient)
        return None if dy is None else dy.reshape(self._x_shape)

    def firing_rates(self) -> dict[str, float]:
        """Of each spiking layer, the share of neurons and steps that spiked in the last forward pass.

        Names are "<index of the layer>"; a rate lies in [0, 1].
        """
        return {str(k): layer.firing_rate() for k, layer in enumerate(self.layers) if isinstance(layer, RLeaky)}

    @property
    def parameters(self) -> dict[str, Array]:
        """What is learnable, "0.weight" and so on: views in torch's layout; writing to them changes the net."""
        return {f"{k}.{name}": x for k, layer in enumerate(self.layers) for name, x in layer.parameters.items()}

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradients that the last backward pass left, named and laid out as the parameters."""
        return {f"{k}.{name}": x for k, layer in enumerate(self.layers) for name, x in layer.gradients.items()}

    def state_dict(self) -> dict[str, Array]:
        """Copies of all arrays, learnable or not, with torch's names and layouts."""
        return {f"{k}.{name}": x for k, layer in enumerate(self.layers) for name, x in layer.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Take over arrays by name, such as state_dict gives, or those of a torch.nn.Sequential as NumPy arrays.

        Raises
        ------
        KeyError
            if a name is missing or not known, before anything is changed.
        ValueError
            if an array has another shape, or does not hold finite numbers, before anything is changed.
        """
        unknown = [name for name in state if name.split(".")[0] not in map(str, range(len(self.layers)))]
        if unknown:
            raise KeyError(f"state has {unknown[0]}, which is of none of the layers 0 to {len(self.layers) - 1}")
        checked = [layer._checked_state(state, f"{k}.") for k, layer in enumerate(self.layers)]
        for layer, arrays in zip(self.layers, checked, strict=True):
            layer._assign(arrays)


def _check_layers(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """The layers, if each is one, occurs once, and takes what the one before gives, and the last one spikes."""
    for k, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must be snnumba layers; argument {k} is {layer!r}")
        if any(layer is other for other in layers[:k]):
            raise ValueError(f"layer {k}, {layer!r}, is in the net twice")
        if k > 0:
            before = layers[k - 1]
            if before.out_features != layer.in_features:
                raise ValueError(
                    f"layer {k}, {layer!r}, takes {layer.in_features} features; "
                    f"{before!r} before it gives {before.out_features}"
                )
    if not layers or not isinstance(layers[-1], RLeaky):
        raise ValueError(f"the last layer must be a spiking one; got {layers[-1] if layers else 'no layer'}")
    return layers
