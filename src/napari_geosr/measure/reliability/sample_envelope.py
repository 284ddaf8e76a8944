"""Whether the automatic sample mask cuts through the material.

The envelope of the largest body (`measure.envelope`) follows the walls of pores whose
mouths are wider than its closing. Of a dense specimen with air around it that is a
layer at the surface; of a felt, a foam of open cells or a cube that was cut out of a
larger piece it is most of the pores.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.measure.envelope import envelope_steps
from napari_geosr.measure.hull import hull_area, left_out_of_hull, without_specks

Mask = npt.NDArray[np.bool_]

#: Solid outside of the mask, as a share of all solid, that is said.
_MUCH_SOLID = 0.05
#: Part of a face of the volume that the hull of its solid covers if it is filled.
_FILLED = 0.6
#: An envelope that leaves less than this out of the convex outline follows it.
_CONVEX = 0.03
#: Part of what an envelope leaves out that one with twice its closing takes in, where
#: that are pores; concave outlines, of an L or a ring, stay what they are.
_TAKEN_IN = 0.2
#: Change of the porosity that is no rounded corner, however concave the outline.
_LARGE_CHANGE = 0.1
#: Change of the porosity, as a part of the smaller phase and at least, that is said.
_CHANGE, _LEAST_CHANGE = 0.15, 0.01


@dataclass(frozen=True)
class EnvelopeFit:
    """How well an envelope outlines the material.

    Attributes
    ----------
    porosity : float
        Share of the envelope that is not solid, 0 … 1.
    whole : float
        The same of the whole volume.
    solid_outside : float
        Share of the solid that lies outside of the envelope.
    volume_outside : float
        Share of the volume that lies outside of the envelope.
    fills_volume : bool
        Whether solid reaches all over each face of the volume.
    closing : int
        With which the envelope was made, in voxels.
    left_out : float
        Share of the slice-wise convex outlines that lies outside of the envelope.
    wider : (int, float, float) or None
        Another closing, and `porosity` and `left_out` with it; None where it was not
        needed.
    """

    porosity: float
    whole: float
    solid_outside: float
    volume_outside: float
    fills_volume: bool
    closing: int
    left_out: float
    wider: tuple[int, float, float] | None = None

    @property
    def cuts_a_cube(self) -> bool:
        """Whether the sample fills the volume, and the envelope leaves out pores."""
        return self.fills_volume and _differ(self.porosity, self.whole)

    @property
    def depends_on_closing(self) -> bool:
        """Whether the porosity changes with the closing because pores are taken in."""
        if self.wider is None or not _differ(self.porosity, self.wider[1]):
            return False
        _, porosity, left_out = self.wider
        return (
            left_out < (1 - _TAKEN_IN) * self.left_out
            or abs(porosity - self.porosity) > _LARGE_CHANGE
        )


def envelope_fit_steps(
    solid: Mask,
    envelope: Mask,
    closing: int,
    *,
    name: str = "volume",
    thickness: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, EnvelopeFit]:
    """Compare an envelope with its surroundings.

    A second envelope, with twice the closing, is made only if the first one leaves
    out a part of the material's convex outline and the material does not fill the
    volume.

    Parameters
    ----------
    solid : ndarray of shape (Z, Y, X), bool
    envelope : ndarray of shape (Z, Y, X), bool
        That `envelope_steps` made of `solid`.
    closing : int
        With which it was made.
    thickness : int, optional
        Planes that are labelled together.
    """
    all_solid, inside = _count(solid), _count(solid & envelope)
    fit = EnvelopeFit(
        porosity=1 - inside / max(1, _count(envelope)),
        whole=1 - all_solid / solid.size,
        solid_outside=1 - inside / max(1, all_solid),
        volume_outside=1 - _count(envelope) / solid.size,
        fills_volume=_fills_volume(solid),
        closing=closing,
        left_out=left_out_of_hull(envelope, lambda z: solid[z]),
    )
    if not fit.fills_volume and fit.left_out > _CONVEX:
        more = max(2 * closing, closing + 3)
        wide = yield from envelope_steps(
            solid, more, name=name, thickness=thickness, should_stop=should_stop
        )
        porosity = 1 - _count(solid & wide) / max(1, _count(wide))
        left_out = left_out_of_hull(wide, lambda z: solid[z])
        fit = replace(fit, wider=(more, porosity, left_out))
    return fit


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _fills_volume(solid: Mask) -> bool:
    """Whether the solid's hull covers most of each face of the volume."""
    axes = [axis for axis, n in enumerate(solid.shape) if n > 1]
    for axis in axes:
        for end in (0, -1):
            face = np.take(solid, end, axis=axis)
            if hull_area(without_specks(face)) < _FILLED * face.size:
                return False
    return bool(axes)


def envelope_remarks(fit: EnvelopeFit, name: str) -> Iterator[str]:
    """Messages if the envelope does not outline the sample."""
    if fit.solid_outside > _MUCH_SOLID:
        yield (
            f"{_percent(fit.solid_outside)} of the solid of {name!r} lies outside the "
            "automatic sample mask, which covers only the largest connected solid. "
            "If it is part of the sample, measure without a sample mask or with one "
            "of your own."
        )
    if fit.cuts_a_cube:
        yield (
            f"The automatic sample mask of {name!r} cuts through the material: solid "
            "reaches every side of the volume, but the mask excludes "
            f"{_percent(fit.volume_outside)} of the volume, including open pores. The "
            "porosity is "
            f"about {_percent(fit.porosity)} in the mask and {_percent(fit.whole)} in "
            "the whole volume. Measure without a sample mask, or with one of your own."
        )
    elif fit.wider is not None and fit.depends_on_closing:
        closing, porosity, _ = fit.wider
        yield (
            f"The automatic sample mask of {name!r} may cut through the material: the "
            f"porosity is about {_percent(fit.porosity)} with a mask closing of "
            f"{fit.closing} voxels, but {_percent(porosity)} with {closing}. Increase "
            "the mask closing until the porosity no longer changes, or use a sample "
            "mask of your own."
        )


def _differ(porosity: float, other: float) -> bool:
    smaller = min(porosity, 1 - porosity)
    return abs(other - porosity) > max(_LEAST_CHANGE, _CHANGE * smaller)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
