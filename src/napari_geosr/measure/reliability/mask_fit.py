"""Checks whether the automatic sample mask cuts through the material.

The mask (`measure.sample.mask`) excludes pores with openings too wide to be bridged by
its closing. In a dense specimen surrounded by air, these pores form a layer at the
surface; in a felt, an open-cell foam or a cube cut out of a larger piece, most of the
pores are of this kind.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.measure.number_text import rough_percent
from napari_geosr.measure.reliability.hull import (
    hull_area,
    hull_share_outside,
    without_specks,
)
from napari_geosr.measure.sample.mask import sample_mask_steps

Mask = npt.NDArray[np.bool_]

#: Fraction of the solid outside the mask above which a message is shown.
_MAX_SOLID_OUTSIDE = 0.05
#: Minimum fraction of every face of the volume that the convex hull of the solid covers
#: if the solid fills the volume.
_FILLED = 0.6
#: Fraction of the convex hulls outside the mask up to which the mask counts as convex.
_CONVEX = 0.03
#: Minimum fraction of the excluded part that a mask with twice the closing radius
#: includes if the excluded part consists of pores. Such a mask still excludes the
#: recess of a concave outline (an L, a ring).
_INCLUDED_SHARE = 0.2
#: Change of the porosity that is too large to result from rounding the corners of a
#: concave outline.
_LARGE_CHANGE = 0.1
#: Change of the porosity, relative to the smaller phase, above which a message is
#: shown.
_MAX_RELATIVE_CHANGE = 0.15
#: Minimum absolute change of the porosity for that message.
_MIN_CHANGE = 0.01


@dataclass(frozen=True)
class SampleMaskFit:
    """Fit of a sample mask to the material.

    Attributes
    ----------
    porosity : float
        Fraction of the mask that is not solid, 0 … 1.
    whole : float
        Fraction of the whole volume that is not solid.
    solid_outside : float
        Fraction of the solid outside the mask.
    volume_outside : float
        Fraction of the volume outside the mask.
    fills_volume : bool
        Whether the solid's hull covers most of each face of the volume.
    closing : int
        Closing radius of the mask, in voxels.
    left_out : float
        Fraction of the slice-wise convex hulls outside the mask.
    wider : (int, float, float) or None
        A larger closing, with its `porosity` and `left_out`; None if not needed.
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
    def cuts(self) -> bool:
        """Whether the mask excludes open pores or solid, not only the surroundings."""
        return (
            self.leaves_out_solid or self.cuts_filled_volume or self.depends_on_closing
        )

    @property
    def leaves_out_solid(self) -> bool:
        """Whether a noticeable part of the solid lies outside the mask."""
        return self.solid_outside > _MAX_SOLID_OUTSIDE

    @property
    def cuts_filled_volume(self) -> bool:
        """Whether the sample fills the volume, but the mask excludes pores."""
        return self.fills_volume and _differ(self.porosity, self.whole)

    @property
    def depends_on_closing(self) -> bool:
        """Whether a larger closing adds pores, so that the porosity depends on it."""
        if self.wider is None or not _differ(self.porosity, self.wider[1]):
            return False
        _, porosity, left_out = self.wider
        return (
            left_out < (1 - _INCLUDED_SHARE) * self.left_out
            or abs(porosity - self.porosity) > _LARGE_CHANGE
        )


def sample_mask_fit_steps(
    solid: Mask,
    sample: Mask,
    closing: int,
    *,
    name: str = "volume",
    thickness: int | None = None,
    porosity_in: Callable[[Mask], float] | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SampleMaskFit]:
    """Compare a sample mask with the solid.

    A second mask, with at least twice the closing radius, is made only if the first one
    excludes part of the material's convex hull and the material does not fill the
    volume.

    Parameters
    ----------
    solid : ndarray of shape (Z, Y, X), bool
    sample : ndarray of shape (Z, Y, X), bool
        The mask that `sample_mask_steps` made from `solid`.
    closing : int
        Closing radius of the mask, in voxels.
    thickness : int, optional
        Number of planes labelled together.
    porosity_in : callable, optional
        Computes the porosity inside a mask, if the threshold there differs from that of
        `solid`.
    """

    def not_solid(mask: Mask) -> float:
        """Return the fraction of a mask that is not solid."""
        return 1 - _count(solid & mask) / max(1, _count(mask))

    porosity_in = porosity_in or not_solid
    all_solid, inside = _count(solid), _count(solid & sample)
    fit = SampleMaskFit(
        porosity=porosity_in(sample),
        whole=1 - all_solid / solid.size,
        solid_outside=1 - inside / max(1, all_solid),
        volume_outside=1 - _count(sample) / solid.size,
        fills_volume=_fills_volume(solid),
        closing=closing,
        left_out=hull_share_outside(sample, lambda z: solid[z]),
    )
    if not fit.fills_volume and fit.left_out > _CONVEX:
        more = max(2 * closing, closing + 3)
        wide = yield from sample_mask_steps(
            solid, more, name=name, thickness=thickness, should_stop=should_stop
        )
        porosity = porosity_in(wide)
        left_out = hull_share_outside(wide, lambda z: solid[z])
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


def sample_mask_remarks(fit: SampleMaskFit, name: str) -> Iterator[str]:
    """Yield messages if the mask does not outline the sample."""
    if fit.leaves_out_solid:
        porosities = ""
        is_only = not (fit.cuts_filled_volume or fit.depends_on_closing)
        if is_only and _differ(fit.porosity, fit.whole):
            porosities = f" {_porosities(fit)}"
        yield (
            f"{rough_percent(fit.solid_outside)} of the solid of {name!r} lies outside "
            "the automatic sample mask, which covers only the largest connected solid."
            f"{porosities} If it is part of the sample, measure without a sample mask "
            "or with one of your own."
        )
    if fit.cuts_filled_volume:
        yield (
            f"The automatic sample mask of {name!r} cuts through the material: solid "
            "reaches every side of the volume, but the mask excludes "
            f"{rough_percent(fit.volume_outside)} of the volume, including open pores. "
            f"{_porosities(fit)} Measure without a sample mask, or with one of your "
            "own."
        )
    elif fit.wider is not None and fit.depends_on_closing:
        closing, porosity, _ = fit.wider
        yield (
            f"The automatic sample mask of {name!r} may exclude open pores: the "
            f"porosity is {rough_percent(fit.porosity)} with a mask closing of "
            f"{fit.closing} voxels, about {rough_percent(porosity)} with {closing}, "
            f"and {rough_percent(fit.whole)} in the whole volume (including any air "
            "around the sample). If the material fills the volume, as a felt does, "
            "measure without a sample mask. Otherwise, increase the closing until the "
            "porosity is stable, or draw a mask."
        )


def _porosities(fit: SampleMaskFit) -> str:
    """State the porosity in the mask and in the whole volume."""
    return (
        f"The porosity is about {rough_percent(fit.porosity)} in the mask and "
        f"{rough_percent(fit.whole)} in the whole volume."
    )


def _differ(porosity: float, other: float) -> bool:
    smaller = min(porosity, 1 - porosity)
    return abs(other - porosity) > max(_MIN_CHANGE, _MAX_RELATIVE_CHANGE * smaller)
