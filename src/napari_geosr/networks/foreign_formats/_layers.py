"""ONNX operators in torch: layers with weights, pooling, resizing and norms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from napari_geosr.networks.foreign_formats._operators import (
    OperatorCall,
    numbers,
    operator,
)


def _pads(
    call: OperatorCall, x: Tensor, kernel: list[int]
) -> tuple[list[int], list[int]]:
    """Return the padding at the near and far end of each spatial axis."""
    n = x.ndim - 2
    auto = call.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        given = numbers(call.get("pads")) or [0] * 2 * n
        return given[:n], given[n:]
    if auto == "VALID":
        return [0] * n, [0] * n
    strides, dilations = _each(call, "strides", n), _each(call, "dilations", n)
    near, far = [], []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // s) - 1) * s + (k - 1) * d + 1 - size)
        small, large = total // 2, total - total // 2
        near.append(small if auto == "SAME_UPPER" else large)
        far.append(large if auto == "SAME_UPPER" else small)
    return near, far


def _each(call: OperatorCall, name: str, n: int) -> list[int]:
    return numbers(call.get(name)) or [1] * n


def _around(near: list[int], far: list[int]) -> list[int]:
    """Return the padding in torch's order, with the last axis first."""
    pairs = zip(reversed(near), reversed(far), strict=True)
    return [n for pair in pairs for n in pair]


def _by_axes(call: OperatorCall, x: Tensor, *functions: Callable[..., Tensor]) -> Any:
    """Return the function for the number of spatial axes of `x`."""
    n = x.ndim - 2
    if not 1 <= n <= len(functions):
        raise call.refuse(f"{n} spatial axes")
    return functions[n - 1]


@operator("Conv")
def _conv(call: OperatorCall, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    near, far = _pads(call, x, list(w.shape[2:]))
    if near != far:
        x = functional.pad(x, _around(near, far))
        near = [0] * len(near)
    n = x.ndim - 2
    convolve = _by_axes(
        call, x, functional.conv1d, functional.conv2d, functional.conv3d
    )
    y: Tensor = convolve(
        x,
        w,
        b,
        stride=_each(call, "strides", n),
        padding=near,
        dilation=_each(call, "dilations", n),
        groups=call.get("group", 1),
    )
    return y


@operator("ConvTranspose")
def _transposed(
    call: OperatorCall, x: Tensor, w: Tensor, b: Tensor | None = None
) -> Tensor:
    n = x.ndim - 2
    near, far = numbers(call.get("pads"))[:n], numbers(call.get("pads"))[n:]
    near, far = near or [0] * n, far or [0] * n
    auto = call.get("auto_pad", "NOTSET")
    if call.get("output_shape") or auto not in ("NOTSET", "", "VALID") or near != far:
        raise call.refuse(
            "a given output size, automatic padding, or paddings that differ between "
            "the two ends of an axis"
        )
    convolve = _by_axes(
        call,
        x,
        functional.conv_transpose1d,
        functional.conv_transpose2d,
        functional.conv_transpose3d,
    )
    y: Tensor = convolve(
        x,
        w,
        b,
        stride=_each(call, "strides", n),
        padding=near,
        output_padding=numbers(call.get("output_padding")) or [0] * n,
        groups=call.get("group", 1),
        dilation=_each(call, "dilations", n),
    )
    return y


@operator("MaxPool")
def _max_pool(call: OperatorCall, x: Tensor) -> Tensor:
    kernel = numbers(call.get("kernel_shape"))
    near, far = _pads(call, x, kernel)
    if any((*near, *far)):
        x = functional.pad(x, _around(near, far), value=-torch.inf)
    pool = _by_axes(
        call, x, functional.max_pool1d, functional.max_pool2d, functional.max_pool3d
    )
    y: Tensor = pool(
        x,
        kernel,
        stride=_each(call, "strides", len(kernel)),
        dilation=_each(call, "dilations", len(kernel)),
        ceil_mode=bool(call.get("ceil_mode", 0)),
    )
    return y


@operator("AveragePool")
def _average_pool(call: OperatorCall, x: Tensor) -> Tensor:
    kernel = numbers(call.get("kernel_shape"))
    near, far = _pads(call, x, kernel)
    if near != far or any(d != 1 for d in _each(call, "dilations", len(kernel))):
        raise call.refuse("uneven padding or dilations")
    if x.ndim == 3:
        raise call.refuse("one spatial axis")
    pool = _by_axes(
        call, x, functional.avg_pool2d, functional.avg_pool2d, functional.avg_pool3d
    )
    y: Tensor = pool(
        x,
        kernel,
        stride=_each(call, "strides", len(kernel)),
        padding=near,
        ceil_mode=bool(call.get("ceil_mode", 0)),
        count_include_pad=bool(call.get("count_include_pad", 0)),
    )
    return y


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: OperatorCall, x: Tensor) -> Tensor:
    dims = tuple(range(2, x.ndim))
    if call.op == "GlobalMaxPool":
        return x.amax(dims, keepdim=True)
    return x.mean(dims, keepdim=True)


@operator("BatchNormalization")
def _batch_norm(
    call: OperatorCall,
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    mean: Tensor,
    var: Tensor,
) -> Tensor:
    eps = call.get("epsilon", 1e-5)
    return functional.batch_norm(x, mean, var, scale, bias, training=False, eps=eps)


@operator("InstanceNormalization")
def _instance_norm(
    call: OperatorCall, x: Tensor, scale: Tensor, bias: Tensor
) -> Tensor:
    eps = call.get("epsilon", 1e-5)
    return functional.instance_norm(x, weight=scale, bias=bias, eps=eps)


@operator("GroupNormalization")
def _group_norm(call: OperatorCall, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups, eps = call.get("num_groups"), call.get("epsilon", 1e-5)
    if len(scale) != x.shape[1]:  # before opset 21: one value per group
        scale, bias = (t.repeat_interleave(x.shape[1] // groups) for t in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, eps)


@operator("LayerNormalization")
def _layer_norm(
    call: OperatorCall, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    shape = list(x.shape[call.get("axis", -1) :])
    weights = scale.expand(shape)
    biases = None if bias is None else bias.expand(shape)
    return functional.layer_norm(x, shape, weights, biases, call.get("epsilon", 1e-5))


@operator("MatMul")
def _matmul(_call: OperatorCall, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


@operator("Gemm")
def _gemm(call: OperatorCall, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.mT if call.get("transA", 0) else a
    b = b.mT if call.get("transB", 0) else b
    y: Tensor = call.get("alpha", 1.0) * torch.matmul(a, b)
    return y if c is None else y + call.get("beta", 1.0) * c


@operator("Softmax", "LogSoftmax")
def _softmax(call: OperatorCall, x: Tensor) -> Tensor:
    function = functional.softmax if call.op == "Softmax" else functional.log_softmax
    if call.opset >= 13:
        return function(x, dim=call.get("axis", -1))
    axis = call.get("axis", 1) % x.ndim  # before opset 13: `axis` onwards
    return function(x.flatten(axis), dim=-1).reshape(x.shape)


@operator("Pad")
def _pad(
    call: OperatorCall,
    x: Tensor,
    pads: Tensor | None = None,
    value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    given = numbers(call.get("pads") if pads is None else pads)
    places = [a % x.ndim for a in numbers(axes)] or list(range(x.ndim))
    near, far = [0] * x.ndim, [0] * x.ndim
    for i, place in enumerate(places):
        near[place], far[place] = given[i], given[len(places) + i]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(
        call.get("mode", "constant")
    )
    if mode is None:
        raise call.refuse(f"the mode {call.get('mode')}")
    if mode == "constant":
        number = call.get("value", 0.0) if value is None else value.item()
        return functional.pad(x, _around(near, far), value=number)
    if any((*near[:2], *far[:2])):
        raise call.refuse("padding of batch or channels")
    return functional.pad(x, _around(near[2:], far[2:]), mode=mode)


@operator("Resize", "Upsample")
def _resize(call: OperatorCall, x: Tensor, *more: Tensor | None) -> Tensor:
    roi_first = call.op == "Resize" and call.opset > 10
    scales = more[1] if roi_first and len(more) > 1 else more[0] if more else None
    sizes = more[2] if roi_first and len(more) > 2 else None
    factors: list[float] | None = None
    if scales is not None and scales.numel():
        factors = [float(v) for v in scales.tolist()]
    elif call.get("scales"):
        factors = [float(v) for v in call.get("scales")]
    size = None if sizes is None or not sizes.numel() else numbers(sizes)
    if factors is None and size is None:
        raise call.refuse("neither factors nor sizes")
    places = [a % x.ndim for a in numbers(call.get("axes"))] or list(range(x.ndim))
    whole = list(x.shape)
    for i, place in enumerate(places):
        if size is not None:
            whole[place] = size[i]
        elif factors is not None:
            whole[place] = int(x.shape[place] * factors[i])
    if whole[:2] != list(x.shape[:2]):
        raise call.refuse("a different number of channels")
    mode, align = _mode(call, x, whole[2:])
    options = {} if align is None else {"align_corners": align}
    return functional.interpolate(x, size=whole[2:], mode=mode, **options)


def _mode(call: OperatorCall, x: Tensor, size: list[int]) -> tuple[str, bool | None]:
    """Return the mode and `align_corners` of the equivalent interpolation in torch."""
    mode = call.get("mode", "nearest")
    new = call.op == "Resize" and call.opset > 10
    corners = call.get(
        "coordinate_transformation_mode", "half_pixel" if new else "asymmetric"
    )
    if call.get("antialias", 0) or call.get("exclude_outside", 0):
        raise call.refuse("an anti-aliasing filter")
    if mode == "nearest":
        whole = all(n % m == 0 for n, m in zip(size, x.shape[2:], strict=True))
        rounding = call.get("nearest_mode", "round_prefer_floor" if new else "floor")
        # For integer factors, all of these modes repeat every value.
        repeats = whole and (corners, rounding) in (
            ("asymmetric", "floor"),
            ("half_pixel", "round_prefer_floor"),
            ("half_pixel", "round_prefer_ceil"),
            ("pytorch_half_pixel", "round_prefer_floor"),
        )
        if repeats or (corners, rounding) == ("asymmetric", "floor"):
            return "nearest", None
        raise call.refuse(
            f"nearest-neighbour interpolation with {corners} "
            f"coordinates and {rounding} rounding"
        )
    names = {
        "linear": ("linear", "bilinear", "trilinear"),
        "cubic": ("", "bicubic", ""),
    }
    if mode == "cubic" and call.get("cubic_coeff_a", -0.75) != -0.75:
        raise call.refuse("a different cubic kernel")
    name = names.get(mode, ("", "", ""))[x.ndim - 3]
    align = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}
    if not name or corners not in align:
        raise call.refuse(f"{mode} interpolation by {corners}")
    return name, align[corners]
