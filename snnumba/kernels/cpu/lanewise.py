"""Arithmetic of vectors lane by lane, so that rules.py, written for numbers, takes vectors as well.

A number beside a vector stands in all lanes. A comparison makes a truth value a lane; type(x) of a vector x, called,
makes a vector of a number or of truth values, 1 where true. A rule that branches on a vector does not compile.
"""

import math
import operator

from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from .vector import Vector, _broadcast, _declare, _lanes, _llvm, _suffix

CONTRACT = ("contract",)  # a*b+c may be rounded once, as in the kernels' other code


class Truth(types.Type):
    """A truth value a lane."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(f"Truth({dtype})")


@register_model(Truth)
class _TruthModel(models.PrimitiveModel):
    def __init__(self, manager, truth):  # pragma: no cover - asked for where a variable that is set twice holds one
        super().__init__(manager, truth, ir.VectorType(ir.IntType(1), _lanes(truth.dtype)))


class VectorClass(types.Callable, types.Opaque):
    """type(x) of a vector x."""

    def __init__(self, vector):
        self.vector = vector
        super().__init__(f"class({vector})")

    def get_call_type(self, context, args, kws):
        return signature(self.vector, *map(types.unliteral, args))

    def get_call_signatures(self):  # pragma: no cover - Numba asks where no call fits
        return (), False

    def get_impl_key(self, sig):
        return type(self)


register_model(VectorClass)(models.OpaqueModel)


@infer_getattr
class _VectorAttributes(AttributeTemplate):
    key = Vector

    def resolve___class__(self, vector):
        return VectorClass(vector)


def _spread(context, builder, dtype, kind, value):
    """A vector of a number, of truth values, or as it is."""
    if isinstance(kind, Vector):
        return value
    if isinstance(kind, Truth):
        n = _lanes(dtype)
        one, zero = (ir.Constant(_llvm(dtype), [x] * n) for x in (1.0, 0.0))
        return builder.select(value, one, zero)
    return _broadcast(builder, context.cast(builder, value, kind, dtype), _lanes(dtype))


@lower_builtin(VectorClass, types.Any)
def _call(context, builder, sig, args):
    return _spread(context, builder, sig.return_type.dtype, sig.args[0], args[0])


def _lanewise(function, returns, make, arguments=2):
    """Let a function of numbers take vectors: make(builder, dtype, *vectors) for one that `returns` Vector or Truth."""

    @infer_global(function)
    class _Template(AbstractTemplate):
        def generic(self, args, kws):
            vectors = [x for x in args if isinstance(x, Vector)]
            if len(args) == arguments and vectors and all(isinstance(x, Vector | types.Number) for x in args):
                return signature(returns(vectors[0].dtype), *map(types.unliteral, args))

    def lower(context, builder, sig, args):
        dtype = next(x.dtype for x in sig.args if isinstance(x, Vector))
        each = [_spread(context, builder, dtype, kind, x) for kind, x in zip(sig.args, args, strict=True)]
        return make(builder, dtype, *each)

    kinds = [(Vector,)] if arguments == 1 else [(Vector, Vector), (Vector, types.Number), (types.Number, Vector)]
    for kind in kinds:
        lower_builtin(function, *kind)(lower)


def _instruction(name):
    return lambda builder, dtype, a, b: getattr(builder, name)(a, b, flags=CONTRACT)


for name, instruction in {"add": "fadd", "sub": "fsub", "mul": "fmul", "truediv": "fdiv"}.items():
    for function in (getattr(operator, name), getattr(operator, f"i{name}")):
        _lanewise(function, Vector, _instruction(instruction))


def _comparison(sign):
    return lambda builder, dtype, a, b: builder.fcmp_ordered(sign, a, b)


for function, sign in {operator.gt: ">", operator.lt: "<", operator.ge: ">=", operator.le: "<="}.items():
    _lanewise(function, Truth, _comparison(sign))


def _absolute(builder, dtype, x):
    vector = _llvm(dtype)
    return builder.call(_declare(builder, f"llvm.fabs.{_suffix(dtype)}", vector, [vector]), [x])


def _exponential(builder, dtype, x):
    vector = _llvm(dtype)
    return builder.call(_declare(builder, f"llvm.exp.{_suffix(dtype)}", vector, [vector]), [x])


_lanewise(operator.neg, Vector, lambda builder, dtype, x: builder.fneg(x), 1)
_lanewise(abs, Vector, _absolute, 1)
_lanewise(math.exp, Vector, _exponential, 1)
