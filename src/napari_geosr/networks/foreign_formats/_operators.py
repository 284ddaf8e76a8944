"""ONNX operators in torch: arithmetic, shapes and indexing.

They follow the ONNX operator reference (opsets 9 to 23), for the variants that image
networks use. Graphs with other operators are rejected on import. Layers are in
`_layers`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_geosr.core.errors import ModelError
from napari_geosr.core.types import AnyMapping

Value = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class OperatorCall:
    """A node of a graph: one call of an operator.

    Attributes
    ----------
    op : str
        Name of the operator.
    attributes : mapping
        Attributes of the operator, as plain values.
    opset : int
        Version of the ONNX operator set.
    n_outputs : int
        Number of outputs.
    dtype : torch.dtype
        Floating-point type of the computation; replaces all floating-point types.
    """

    op: str
    attributes: AnyMapping = field(default_factory=dict)
    opset: int = 18
    n_outputs: int = 1
    dtype: torch.dtype = torch.float32

    def get(self, name: str, default: object = None) -> Any:
        """Return an attribute, or its default."""
        return self.attributes.get(name, default)

    def refuse(self, what: str) -> ModelError:
        """Return the error for an unsupported variant."""
        return ModelError(
            f"The operator {self.op} of the model's graph has {what}, which is not "
            "supported. Ask the model's authors for other weights."
        )


OPERATORS: dict[str, Callable[..., Value]] = {}


def operator(*names: str) -> Callable[[Callable[..., Value]], Callable[..., Value]]:
    """Register a function that computes the operators called `names`."""

    def add(function: Callable[..., Value]) -> Callable[..., Value]:
        """Register the function."""
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return add


def numbers(values: Tensor | Sequence[int] | None) -> list[int]:
    """Return the integers of a tensor or an attribute; an empty list for None."""
    if values is None:
        return []
    if isinstance(values, Tensor):
        return [int(v) for v in values.reshape(-1).tolist()]
    return [int(v) for v in values]


#: Data types by their code in ONNX; all floating-point types are replaced with the
#: network's type.
_TYPES = {3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 2: torch.uint8}
#: Codes of the floating-point types in ONNX.
_FLOATING = (1, 10, 11, 16)
#: Code of the Boolean type in ONNX.
_BOOL = 9

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Neg": torch.neg,
    "Abs": torch.abs,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Erf": torch.erf,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Sign": torch.sign,
    "Not": torch.logical_not,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "HardSwish": functional.hardswish,
    "Mish": functional.mish,
}


def _unary(function: Callable[[Tensor], Tensor]) -> Callable[..., Value]:
    return lambda _call, x: function(x)


OPERATORS.update({name: _unary(function) for name, function in _UNARY.items()})


def _divide(a: Tensor, b: Tensor) -> Tensor:
    whole = not (a.is_floating_point() or b.is_floating_point())
    return torch.div(a, b, rounding_mode="trunc" if whole else None)


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": _divide,
    "Pow": torch.pow,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "Less": torch.lt,
    "GreaterOrEqual": torch.ge,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
}


def _on_one_device(*values: Tensor) -> tuple[Tensor, ...]:
    """Move all values to one device, because sizes are computed on the CPU."""
    devices = [v.device for v in values if v.device.type != "cpu"]
    if not devices:
        return values
    return tuple(v.to(devices[0]) for v in values)


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Value]:
    return lambda _call, a, b: function(*_on_one_device(a, b))


OPERATORS.update({name: _binary(function) for name, function in _BINARY.items()})


@operator("Max", "Min", "Sum", "Mean")
def _variadic(call: OperatorCall, *values: Tensor) -> Tensor:
    pairs = {"Max": torch.maximum, "Min": torch.minimum}
    function = pairs.get(call.op, torch.add)
    result = functools.reduce(function, _on_one_device(*values))
    return result / len(values) if call.op == "Mean" else result


@operator("Mod")
def _mod(call: OperatorCall, a: Tensor, b: Tensor) -> Tensor:
    a, b = _on_one_device(a, b)
    return torch.fmod(a, b) if call.get("fmod", 0) else torch.remainder(a, b)


@operator("Where")
def _where(_call: OperatorCall, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    condition, a, b = _on_one_device(condition, a, b)
    return torch.where(condition.bool(), a, b)


@operator("LeakyRelu")
def _leaky(call: OperatorCall, x: Tensor) -> Tensor:
    return functional.leaky_relu(x, call.get("alpha", 0.01))


@operator("PRelu")
def _prelu(_call: OperatorCall, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, slope * x)


@operator("Elu", "Celu")
def _elu(call: OperatorCall, x: Tensor) -> Tensor:
    function = functional.elu if call.op == "Elu" else functional.celu
    return function(x, call.get("alpha", 1.0))


@operator("Selu")
def _selu(call: OperatorCall, x: Tensor) -> Tensor:
    alpha, gamma = call.get("alpha", 1.6732632), call.get("gamma", 1.050701)
    y: Tensor = gamma * functional.elu(x, alpha)
    return y


@operator("ThresholdedRelu")
def _thresholded(call: OperatorCall, x: Tensor) -> Tensor:
    return torch.where(x > call.get("alpha", 1.0), x, x * 0)


@operator("HardSigmoid")
def _hard_sigmoid(call: OperatorCall, x: Tensor) -> Tensor:
    y: Tensor = call.get("alpha", 0.2) * x + call.get("beta", 0.5)
    return y.clamp(0, 1)


@operator("Gelu")
def _gelu(call: OperatorCall, x: Tensor) -> Tensor:
    return functional.gelu(x, approximate=call.get("approximate", "none"))


@operator("Clip")
def _clip(
    call: OperatorCall, x: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    least = call.get("min") if low is None else float(low)
    most = call.get("max") if high is None else float(high)
    return x if least is None and most is None else x.clamp(least, most)


@operator("Identity", "Dropout")
def _identity(_call: OperatorCall, x: Tensor, *_more: Tensor | None) -> Tensor:
    return x


@operator("Cast")
def _cast(call: OperatorCall, x: Tensor) -> Tensor:
    to = int(call.get("to", 1))
    if to in _FLOATING:
        return x.to(call.dtype)
    if to == _BOOL:
        return x.bool()
    if to not in _TYPES:
        raise call.refuse(f"the type {to}")
    return x.to(_TYPES[to])


@operator("CastLike")
def _cast_like(call: OperatorCall, x: Tensor, like: Tensor) -> Tensor:
    return x.to(call.dtype if like.is_floating_point() else like.dtype)


# Shapes and indices


@operator("Shape")
def _shape(call: OperatorCall, x: Tensor) -> Tensor:
    part = slice(call.get("start", 0), call.get("end"))
    return torch.tensor(list(x.shape)[part], dtype=torch.int64)


@operator("Size")
def _size(_call: OperatorCall, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


@operator("Reshape")
def _reshape(call: OperatorCall, x: Tensor, shape: Tensor) -> Tensor:
    sizes = numbers(shape)
    if not call.get("allowzero", 0):
        sizes = [x.shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def _flatten(call: OperatorCall, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    rows = 1
    for n in x.shape[:axis]:
        rows *= n
    return x.reshape(rows, -1)


@operator("Transpose")
def _transpose(call: OperatorCall, x: Tensor) -> Tensor:
    return x.permute(call.get("perm") or list(reversed(range(x.ndim))))


@operator("Squeeze")
def _squeeze(call: OperatorCall, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = numbers(call.get("axes") if axes is None else axes)
    return x.squeeze(places) if places else x.squeeze()


@operator("Unsqueeze")
def _unsqueeze(call: OperatorCall, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = numbers(call.get("axes") if axes is None else axes)
    n = x.ndim + len(places)
    for place in sorted(p % n for p in places):
        x = x.unsqueeze(place)
    return x


@operator("Concat")
def _concat(call: OperatorCall, *values: Tensor) -> Tensor:
    return torch.cat(_on_one_device(*values), dim=call.get("axis", 0))


@operator("Split")
def _split(call: OperatorCall, x: Tensor, sizes: Tensor | None = None) -> Value:
    axis = call.get("axis", 0)
    given = numbers(call.get("split") if sizes is None else sizes)
    if not given:
        n = call.get("num_outputs", call.n_outputs)
        each = -(-x.shape[axis] // n)
        given = [min(each, x.shape[axis] - i * each) for i in range(n)]
    return torch.split(x, given, dim=axis)


@operator("Slice")
def _slice(
    call: OperatorCall,
    x: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = numbers(call.get("starts") if starts is None else starts)
    last = numbers(call.get("ends") if ends is None else ends)
    places = numbers(call.get("axes") if axes is None else axes)
    every = numbers(steps) or [1] * len(first)
    for axis, start, end, step in zip(
        places or range(len(first)), first, last, every, strict=True
    ):
        part = slice(start, end, step)
        if step < 0:  # torch does not support negative steps
            places_taken = range(*part.indices(x.shape[axis]))
            chosen = torch.tensor(places_taken, dtype=torch.int64, device=x.device)
            x = x.index_select(axis, chosen)
            continue
        index: list[slice] = [slice(None)] * x.ndim
        index[axis] = part
        x = x[tuple(index)]
    return x


@operator("Gather")
def _gather(call: OperatorCall, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.ndim
    chosen = indices.to(x.device).long()
    chosen = torch.where(chosen < 0, chosen + x.shape[axis], chosen)
    taken = x.index_select(axis, chosen.reshape(-1))
    return taken.reshape([*x.shape[:axis], *chosen.shape, *x.shape[axis + 1 :]])


@operator("Expand")
def _expand(_call: OperatorCall, x: Tensor, shape: Tensor) -> Tensor:
    target_shape = numbers(shape)
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(target_shape)))


@operator("Tile")
def _tile(_call: OperatorCall, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(numbers(repeats))


@operator("ConstantOfShape")
def _constant_of_shape(call: OperatorCall, shape: Tensor) -> Tensor:
    kind, value = call.get("value", ("float", 0.0))
    dtype = call.dtype if kind == "float" else getattr(torch, kind)
    return torch.full(numbers(shape), value, dtype=dtype)


@operator("Range")
def _range(_call: OperatorCall, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


@operator("DepthToSpace")
def _depth_to_space(call: OperatorCall, x: Tensor) -> Tensor:
    r = call.get("blocksize")
    n, c, h, w = x.shape
    if call.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, r)
    blocks = x.reshape(n, r, r, c // (r * r), h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // (r * r), h * r, w * r)


@operator("SpaceToDepth")
def _space_to_depth(call: OperatorCall, x: Tensor) -> Tensor:
    r = call.get("blocksize")
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // r, r, w // r, r).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * r * r, h // r, w // r)


_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceL2": torch.linalg.vector_norm,
}


@operator(*_REDUCTIONS)
def _reduce(call: OperatorCall, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = numbers(call.get("axes") if axes is None else axes)
    if not places and call.get("noop_with_empty_axes", 0):
        return x
    dims = places or list(range(x.ndim))
    return _REDUCTIONS[call.op](x, dim=dims, keepdim=bool(call.get("keepdims", 1)))


@operator("ReduceProd")
def _product(call: OperatorCall, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = numbers(call.get("axes") if axes is None else axes) or list(range(x.ndim))
    for place in sorted((p % x.ndim for p in places), reverse=True):
        x = x.prod(dim=place, keepdim=True)
    if not call.get("keepdims", 1):
        x = x.squeeze(places)
    return x
