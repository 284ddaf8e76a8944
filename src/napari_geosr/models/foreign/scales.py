"""Convert the grey-value scaling of BioImage.IO packages to that of model cards.

A package lists the operations that are applied before and after its network. Operations
on the whole image must come first and become the card's normalisation; pointwise
operations become part of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from napari_geosr.core.errors import ModelError
from napari_geosr.core.types import AnyArray
from napari_geosr.models.card import Normalisation

Array = AnyArray
#: Settings of an operation, as an object of the library bioimageio.spec.
Settings: TypeAlias = Any
Operation = tuple[str, Settings]
#: A pointwise operation as stored by networks: its name, followed by its parameters.
Applied = tuple[Any, ...]

#: Constant that BioImage.IO adds to fixed standard deviations.
_EPS = 1e-6
#: Replacement for a missing limit of a clip operation; near the largest float32.
_CLIP_LIMIT = 3e38
BACK_REMARK = (
    "The package outputs scaled values; napari-geosr scales them back to the grey "
    "values of the input."
)


@dataclass(frozen=True)
class GreyScaling:
    """How grey values are scaled for the network, and how its results are scaled back.

    Attributes
    ----------
    before, after : tuple
        Pointwise operations, as in `napari_geosr.networks.foreign.NetworkConfig`.
    remarks : tuple of str
        Sentences for the card.
    back : bool
        Whether the result is scaled back to the grey values of the input.
    like_input : str
        The package's own operation that matches the output to the input, or ``""``.
    """

    normalisation: Normalisation
    before: tuple[Applied, ...]
    after: tuple[Applied, ...]
    remarks: tuple[str, ...] = ()
    back: bool = False
    like_input: str = ""


def scales_of(
    before: Sequence[Operation], after: Sequence[Operation], *, restores: bool
) -> GreyScaling:
    """Convert the operations of a package.

    Parameters
    ----------
    before, after : sequence of (str, kwargs)
        Name and settings of each operation.
    restores : bool
        Whether the result is an image like the input, so that it can be scaled back.

    Raises
    ------
    ModelError
        If an operation or the order of operations is not supported.
    """
    first = _InputOperations()
    for name, kwargs in before:
        first.add(name, kwargs)
    last: list[Applied] = []
    like_input = ""
    for name, kwargs in after:
        if name in ("scale_range", "scale_mean_variance"):
            if getattr(kwargs, "reference_tensor", None) is None or not restores:
                raise _unknown(name, "after")
            like_input = name
        elif name != "ensure_dtype":
            last += _by_value(name, kwargs, "after")
    scaled = first.kind != "stored" or (first.mean, first.std) != (0.0, 1.0)
    undone = [_inverse(op) for op in reversed(first.by_value) if op[0] == "linear"]
    back = restores and (scaled or bool(undone)) and not _affine(last)
    output: dict[str, float] = {}
    if back:
        last = [*last, *undone]
        if first.kind == "stored":
            output = {"output_mean": first.mean, "output_std": first.std}
    else:
        output = {"output_mean": 0.0, "output_std": 1.0}
    own = {"mean": first.mean, "std": first.std} if first.kind == "stored" else {}
    if first.percentiles is not None:
        own["percentiles"] = first.percentiles  # type: ignore[assignment]
    return GreyScaling(
        Normalisation.create(kind=first.kind, **own, **output),
        tuple(first.by_value),
        tuple(last),
        (BACK_REMARK,) if back and not like_input else (),
        back,
        like_input,
    )


def to_restoration_scale(
    scale: GreyScaling, before: Sequence[Operation], given: Array, result: Array
) -> Array | None:
    """Convert a package's result to the grey scale of restorations.

    Parameters
    ----------
    before : sequence of (str, kwargs)
        The exact operations that the package applies to its input.
    given, result : ndarray of shape (1, 1, [Z,] Y, X)
        Input and result of the package's test.

    Returns
    -------
    ndarray or None
        Converted result; None if it cannot be converted.
    """
    if scale.like_input == "scale_range":
        return None
    if not scale.back or scale.like_input:
        return result
    scaled = apply([op for op in before if op[0] != "clip"], given, None)
    low, high = float(given.min()), float(given.max())
    if not low < high:
        return None
    gain = float(scaled.max() - scaled.min()) / (high - low)
    return np.asarray((result.astype(np.float64) - scaled.min()) / gain + low)


class _InputOperations:
    """Operations that a package applies before its network, in order."""

    def __init__(self) -> None:
        self.kind = "stored"
        self.mean, self.std = 0.0, 1.0
        self.percentiles: tuple[float, float] | None = None
        self.by_value: list[Applied] = []

    def add(self, name: str, kwargs: object) -> None:
        """Add the next operation."""
        if name == "ensure_dtype":
            return
        if name in ("zero_mean_unit_variance", "scale_range"):
            self.whole_image(name, kwargs)
            return
        for operation in _by_value(name, kwargs, "before"):
            plain = self.kind == "stored" and not self.by_value
            if operation[0] == "linear" and plain:
                _, gain, offset = operation
                self.mean -= offset * self.std / gain
                self.std /= gain
            else:
                self.by_value.append(operation)

    def whole_image(self, name: str, kwargs: Settings) -> None:
        """Add a scaling by statistics of the whole image."""
        axes = getattr(kwargs, "axes", None)
        spatial = {"x", "y"}
        if axes is not None and not spatial <= {str(axis) for axis in axes}:
            raise _unknown(f"{name} over {', '.join(map(str, axes))}", "before")
        if any(op[0] != "linear" for op in self.by_value):
            raise _unknown(f"{name} after other operations", "before")
        # A scaling by image statistics cancels linear scalings before it.
        self.by_value.clear()
        self.kind, self.percentiles = "standardise", None
        if name == "scale_range":
            if getattr(kwargs, "reference_tensor", None) not in (None, "input"):
                raise _unknown(f"{name} relative to another tensor", "before")
            self.kind = "percentiles"
            self.percentiles = (kwargs.min_percentile, kwargs.max_percentile)


def _by_value(name: str, kwargs: Settings, where: str) -> list[Applied]:
    if name == "scale_linear":
        return [
            (
                "linear",
                _single_number(kwargs.gain, where),
                _single_number(kwargs.offset, where),
            )
        ]
    if name == "fixed_zero_mean_unit_variance":
        std = _single_number(kwargs.std, where) + _EPS
        return [("linear", 1 / std, -_single_number(kwargs.mean, where) / std)]
    if name in ("sigmoid", "softmax"):
        return [(name,)]
    if name == "binarize":
        return [("above", _single_number(kwargs.threshold, where))]
    if name == "clip":
        given = (
            getattr(kwargs, "min_percentile", None),
            getattr(kwargs, "max_percentile", None),
        )
        if given != (None, None):
            raise _unknown("clip at percentiles", where)
        low = -_CLIP_LIMIT if kwargs.min is None else float(kwargs.min)
        high = _CLIP_LIMIT if kwargs.max is None else float(kwargs.max)
        return [("clip", low, high)]
    raise _unknown(name, where)


def _inverse(operation: Applied) -> Applied:
    _, gain, offset = operation
    return ("linear", 1 / gain, -offset / gain)


def _affine(operations: Sequence[Applied]) -> bool:
    """Whether any operation other than clipping changes the values."""
    return any(operation[0] != "clip" for operation in operations)


def _single_number(value: Any, where: str) -> float:
    """Return a number, which may be given as a list for a single channel."""
    if isinstance(value, list | tuple):
        if len(value) != 1:
            raise _unknown("different numbers for each channel", where)
        value = value[0]
    return float(value)


def _unknown(what: str, where: str) -> ModelError:
    return ModelError(
        f"The package has an unsupported operation {where} its network: {what}."
    )


def apply(operations: Sequence[Operation], x: Array, reference: Array | None) -> Array:
    """Apply the package's operations exactly, to compare with its test result.

    Parameters
    ----------
    x : ndarray
        Test input, or the network's result.
    reference : ndarray or None
        The unscaled input, for operations that scale results by it.
    """
    x = x.astype(np.float64)
    for name, kwargs in operations:
        x = _REFERENCE[name](x, kwargs, reference) if name in _REFERENCE else x
    return x


def _axes(kwargs: object, x: Array) -> tuple[int, ...]:
    """Return the spatial axes and those that are listed; without a list, all axes."""
    axes = getattr(kwargs, "axes", None)
    if axes is None:
        return tuple(range(x.ndim))
    first = 0 if "batch" in {str(a) for a in axes} else 1
    channel = "channel" in {str(a) for a in axes}
    return tuple(i for i in range(first, x.ndim) if i != 1 or channel)


def _standardised(x: Array, kwargs: Settings, _reference: Array | None) -> Array:
    axes = _axes(kwargs, x)
    mean, std = x.mean(axes, keepdims=True), x.std(axes, keepdims=True)
    return np.asarray((x - mean) / (std + kwargs.eps))


def _ranged(x: Array, kwargs: Settings, reference: Array | None) -> Array:
    of = x if getattr(kwargs, "reference_tensor", None) is None else reference
    assert of is not None
    axes = _axes(kwargs, of)
    low, high = (
        np.percentile(of, q, axis=axes, keepdims=True)
        for q in (kwargs.min_percentile, kwargs.max_percentile)
    )
    return np.asarray((x - low) / (high - low + kwargs.eps))


def _like(x: Array, kwargs: Settings, reference: Array | None) -> Array:
    assert reference is not None
    axes = _axes(kwargs, x)
    mean, std = x.mean(axes, keepdims=True), x.std(axes, keepdims=True)
    theirs = reference.mean(axes, keepdims=True), reference.std(axes, keepdims=True)
    return np.asarray(
        (x - mean) / (std + kwargs.eps) * (theirs[1] + kwargs.eps) + theirs[0]
    )


def _pointwise(name: str) -> Callable[[Array, Settings, Array | None], Array]:
    def apply_one(x: Array, kwargs: object, _reference: Array | None) -> Array:
        """Apply the operation to each value."""
        [operation] = _by_value(name, kwargs, "before or after")
        match operation:
            case ("linear", gain, offset):
                x = x * gain + offset
            case ("sigmoid",):
                x = 1 / (1 + np.exp(-x))
            case ("softmax",):
                e = np.exp(x - x.max(1, keepdims=True))
                x = e / e.sum(1, keepdims=True)
            case ("above", threshold):
                x = (x > threshold).astype(np.float64)
            case ("clip", low, high):
                x = np.clip(x, low, high)
        return np.asarray(x)

    return apply_one


_REFERENCE: dict[str, Callable[[Array, Settings, Array | None], Array]] = {
    "zero_mean_unit_variance": _standardised,
    "scale_range": _ranged,
    "scale_mean_variance": _like,
    **{
        name: _pointwise(name)
        for name in (
            "scale_linear",
            "fixed_zero_mean_unit_variance",
            "sigmoid",
            "softmax",
            "binarize",
            "clip",
        )
    },
}
