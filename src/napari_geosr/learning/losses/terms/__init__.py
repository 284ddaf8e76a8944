"""User-selectable losses between output and target, found by file name.

A module offers, without importing torch at module level:

``TITLE``
    What its curve is called, in up to 20 letters.
``ABOUT``
    What it is for, in a few words.
``KIND``
    ``"voxels"``: compares grey values, and can stand alone. ``"edges"``: compares what
    differs between neighbours, so it needs one of the former. ``"geometry"``: compares
    phases, so it needs one of the former, too, and is ramped in after it.
``WEIGHT``
    By default. Those of geometry are set by the gradient that reaches the output, a
    foam, a sponge and thin tubes twice and four times coarser and interpolated: its
    length is mostly a tenth to two thirds of that of ``l1``.
``NEEDS_RADIUS`` (optional, of geometry)
    True where `loss` reads ``scales.radius``: only then is it measured in the targets.
``REQUIRES`` (optional)
    A module that is not of this package's own needs, and the extra that brings it.
``loss``
    ``loss(output, target)`` in standard deviations of the training data; of geometry
    ``loss(phase, wanted, scales)``: the soft maps of the phase in the output and in the
    target, 0 … 1, and the :class:`GeometryScales`. Tensors are (N, 1, [Z,] Y, X); the
    result is a mean over the batch, so that a batch worked through in parts gives the
    same gradient, and zero, or nearly, where both are the same.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.registry import Registry
from napari_geosr.core.types import AnyDict

TERMS = Registry(
    package="napari_geosr.learning.losses.terms",
    group="napari_geosr.losses",
    noun="loss",
)


@dataclass(frozen=True)
class GeometryScales:
    """At which scales geometry is compared; lengths in voxels of the target.

    Attributes
    ----------
    window : int
        Edge of the largest box in which sums are compared.
    radius : int
        From the centre line to the wall of the widest parts that have one. For losses
        that say ``NEEDS_RADIUS``; without one among those chosen nobody measures it,
        and it is 1.
    spread : float
        Standard deviation of the phase, 0 or 1, over all targets: what errors of rare
        and of common phases are measured by, as grey values are by theirs.
    """

    window: int
    radius: int
    spread: float = 0.5


def describe() -> dict[str, str]:
    """Short description of each loss by name; those usable alone come first."""
    found = _modules()
    names = sorted(found, key=lambda name: (found[name].KIND != "voxels", name))
    return {name: str(found[name].ABOUT) for name in names}


def titles() -> dict[str, str]:
    """Title of each loss curve, by name."""
    return {name: str(module.TITLE) for name, module in _modules().items()}


def needs_radius(module: object) -> bool:
    """Whether a loss looks along centre lines, as far as ``GeometryScales.radius``."""
    return bool(getattr(module, "NEEDS_RADIUS", False))


def with_radius() -> list[str]:
    """Names of the losses that do."""
    return [name for name, module in _modules().items() if needs_radius(module)]


def _modules() -> AnyDict:
    found = {}
    for name in TERMS.names():
        # One of another package that cannot be imported is refused when it is chosen.
        with suppress(ConfigError):
            found[name] = TERMS.load(name)
    return found
