"""User-selectable losses between output and target, found by file name.

The module of a loss must not import torch at module level. It provides:

``TITLE``
    Title of the loss curve, up to 20 characters.
``ABOUT``
    Purpose of the loss, in a few words.
``KIND``
    ``"voxels"``: compares grey values, and can be used alone. ``"edges"``: compares
    differences between neighbours, so it also needs a loss of the first kind.
    ``"geometry"``: compares phases, so it also needs a loss of the first kind, and its
    weight is ramped up later.
``WEIGHT``
    Default weight. The weights of geometric losses were chosen from the gradient with
    respect to the output, for a foam, a sponge and thin tubes that were coarsened by
    factors of 2 and 4 and interpolated: the norm of the gradient is usually one tenth
    to two thirds of the norm for ``l1``.
``NEEDS_RADIUS`` (optional, geometric losses)
    True if `loss` uses ``scales.radius``; otherwise the radius is not measured.
``REQUIRES`` (optional)
    Name of an optional library that the loss needs, and the extra that installs it.
``loss``
    ``loss(output, target)``, in standard deviations of the training data. Geometric
    losses: ``loss(phase, target, scales)`` with the soft maps of the phase in the
    output and in the target, 0 … 1, and the `GeometryScales`. Tensors are (N, 1,
    [Z,] Y, X). The result is a mean over the batch, so that a batch processed in parts
    gives the same gradient; it is zero, or nearly zero, if output and target are equal.
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
    """Scales at which geometry is compared; lengths in voxels of the target.

    Attributes
    ----------
    window : int
        Edge length of the largest box in which means or sums are compared.
    radius : int
        Largest distance from centreline to wall that is considered. The distance is 1
        unless one of the chosen losses has ``NEEDS_RADIUS``.
    spread : float
        Standard deviation of the binary phase over all targets. Errors are divided by
        it, so that rare and common phases are treated alike.
    """

    window: int
    radius: int
    spread: float = 0.5


def describe() -> dict[str, str]:
    """Describe each loss briefly, by name; those usable alone come first."""
    modules = _modules()
    names = sorted(modules, key=lambda name: (modules[name].KIND != "voxels", name))
    return {name: str(modules[name].ABOUT) for name in names}


def titles() -> dict[str, str]:
    """Return the title of each loss curve, by name."""
    return {name: str(module.TITLE) for name, module in _modules().items()}


def needs_radius(module: object) -> bool:
    """Whether a loss uses centrelines, and thus ``GeometryScales.radius``."""
    return bool(getattr(module, "NEEDS_RADIUS", False))


def with_radius() -> list[str]:
    """Return the names of the losses that use ``GeometryScales.radius``."""
    return [name for name, module in _modules().items() if needs_radius(module)]


def _modules() -> AnyDict:
    modules = {}
    for name in TERMS.names():
        # Losses of other packages that cannot be imported are rejected when chosen.
        with suppress(ConfigError):
            modules[name] = TERMS.load(name)
    return modules
