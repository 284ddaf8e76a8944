"""Assess the evidence for a pore: what remains of it if the scan shows solid instead.

First, the voxels of the scan in and next to a pore are replaced several times with
solid plus new noise that has the level and correlation of the scan's own, and the
network restores each modified scan. Any contrast of the pore that remains in the result
does not originate from these voxels, but from training. Second, noise as strong as the
scan's own noise is added everywhere, and a network conditioned on the stronger noise
restores the scan: a pore caused by noise should disappear. Third, the contrast of the
scan at the pore is compared with its noise by a matched filter that has the shape of
the pore as the scanner would show it. If the contrast is no larger than that of noise
in solid, the scan does not show the pore, even if the pore passes the other two tests.
For example, if a network creates pores where it recognises memorised noise, replacing
this noise removes the pore, as it would remove a real one.

Similar ablations are used for classifiers [1]_ [2]_; here, patches are replaced with
realistic noise.

References
----------
.. [1] Fong, Vedaldi. Interpretable explanations of black boxes by meaningful
   perturbation. ICCV (2017). arXiv:1704.03296
.. [2] Zintgraf, Cohen, Adel, Welling. Visualizing deep neural network decisions:
   prediction difference analysis. ICLR (2017). arXiv:1702.04595
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_geosr.attribution import Attribution, AttributionRequest, AttributionResult
from napari_geosr.attribution._patches import NoiseGenerator
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from napari_geosr.attribution._window import Window

TITLE = "Evidence"
HELP = "Whether the pore would appear even if the scan did not show it."

Verdict = Literal["well supported", "weak", "prior only"]

#: A pore counts as "prior only" if at least this fraction of its contrast in the result
#: remains when its input voxels are replaced by solid.
PRIOR_SHARE = 0.5
#: Maximum fraction of its contrast in the result that may remain for a pore that is
#: "well supported".
_SUPPORTED_SHARE = 0.2
#: Minimum fraction of noise realisations in which a well supported pore survives.
_MIN_SURVIVAL = 0.75
#: Minimum contrast of a well supported pore in the scan, in standard deviations of the
#: noise.
_MIN_SUPPORT = 4.0
#: Contrast, in standard deviations of the noise, below which the scan does not show a
#: pore: solid without a pore exceeds it at 2 % of all positions.
_NO_SUPPORT = 2.0
#: Standard deviation of the Gaussian blur that the matched filter assumes, in voxels of
#: the scan.
_BLUR = 0.7
#: Number of noise realisations from which the standard deviation of the matched
#: filter's output is estimated.
_FILTER_DRAWS = 200
#: Minimum of the remaining fraction when its logarithm, infinite for 0, is taken.
_MIN_SHARE = 0.01
#: Width of the zone of solid around a pore: in voxels of the scan for calculating the
#: grey value that replaces the pore, and in voxels of the result for calculating the
#: contrast.
_AROUND = 3
#: Minimum number of solid voxels from which a mean is calculated.
_MIN_SOLID = 8


@dataclass(frozen=True, eq=False)
class _Pore:
    """A pore in a window that includes some solid around it.

    Attributes
    ----------
    request : AttributionRequest
        Request for a region that also includes this solid.
    own : ndarray of bool
        Voxels of the window that are replaced: those in and next to the pore.
    fill : float
        Mean standardised grey value of the adjacent solid in the scan.
    solid : float
        Mean standardised grey value of all solid in the window of the result.
    sign : float
        1 for dark pores, -1 for bright ones.
    """

    request: AttributionRequest
    own: AnyArray
    fill: float
    solid: float
    sign: float

    def contrast(self, values: AnyArray) -> float:
        """Return the contrast: solid minus pore, or the reverse for bright pores."""
        return self.sign * (self.solid - float(values[self.request.mask].mean()))

    def is_drawn(self, values: AnyArray) -> bool:
        """Whether at least half of the pore's voxels are classified as pore."""
        inside = _is_pore(self.request, values)[self.request.mask]
        return bool(inside.mean() >= 0.5)


def explain(request: AttributionRequest) -> Generator[Step, None, AttributionResult]:
    """Restore the scan without the pore's input voxels, and again with added noise.

    Raises
    ------
    ConfigError
        If no threshold is given.
    VolumeError
        If there is no solid next to the pore.
    """
    yield StageStarted(message="Evaluating the evidence")
    pore = _pore(request)
    window = pore.request.window
    fresh = NoiseGenerator(pore.request)
    darkness = pore.contrast(window.values())
    without, kept = [], []
    smooth = _smoothed(window.network_input)
    # Adding noise of the scan's own level raises the noise level by a factor of √2.
    noisier = _noisier(pore.request)
    for i in range(request.draws):
        emptied = window.network_input.astype(np.float64)
        greys = np.full(window.network_input.shape, pore.fill)
        emptied[pore.own] = (greys + fresh.draw(greys))[pore.own]
        without.append(pore.contrast(window.values(emptied)))
        noisy = noisier.values(window.network_input + fresh.draw(smooth))
        kept.append((pore.contrast(noisy), pore.is_drawn(noisy)))
        yield BlockDone(i + 1, request.draws)
    remains = max(0.0, float(np.mean(without)) / darkness) if darkness > 0 else 1.0
    survival = float(np.mean([drawn for _, drawn in kept]))
    support = _support(pore, fresh)
    # If only an upper limit of the noise is known, the support is a lower limit.
    shown = support is None or not fresh.is_measured or support >= _NO_SUPPORT
    verdict = _verdict(remains, survival, support, is_shown=shown)
    std = request.scene.statistics.output_std
    spread = float(np.std(without, ddof=1)) if len(without) > 1 else 0.0
    figures = {
        "verdict": verdict,
        "log_ratio": -math.log(max(remains, _MIN_SHARE)),
        "remains": remains,
        "survival": survival,
        "darkness": darkness * std,
        "darkness_without": float(np.mean(without)) * std,
        "darkness_without_sd": spread * std,
        "darkness_renoised": float(np.mean([d for d, _ in kept])) * std,
        "support": support,
        "shown": shown,
        "voxels": int(request.mask.sum()),
        "draws": request.draws,
    }
    notes: tuple[str, ...] = ()
    if not fresh.is_measured:
        notes = (
            "The noise of the scan could not be measured; the upper limit of the noise "
            "was used.",
        )
    overlay = Attribution(
        window.place, pore.own.astype(np.float32), "voxels replaced by solid"
    )
    sentence = _sentence(verdict, remains, survival, support, is_shown=shown)
    return AttributionResult(figures, sentence, overlay, notes)


def _verdict(
    remains: float, survival: float, support: float | None, *, is_shown: bool
) -> Verdict:
    if remains >= PRIOR_SHARE or not is_shown:
        return "prior only"
    is_visible = support is None or support >= _MIN_SUPPORT
    if remains <= _SUPPORTED_SHARE and survival >= _MIN_SURVIVAL and is_visible:
        return "well supported"
    return "weak"


def _sentence(
    verdict: Verdict,
    remains: float,
    survival: float,
    support: float | None,
    *,
    is_shown: bool,
) -> str:
    visible = (
        "" if support is None else f", with a contrast of {support:.1f} times the noise"
    )
    if not is_shown and remains < PRIOR_SHARE:
        return (
            "The scan does not show the pore: the contrast at its position is "
            f"{support:.1f} times the noise, as in solid without a pore. The model "
            "added the pore because of its training."
        )
    if verdict == "prior only":
        return (
            f"If the scan showed solid in place of the pore, {100 * remains:.0f} % "
            "of the pore's contrast would remain in the result: the model has learned "
            "such pores, and the scan does not show this one."
        )
    if verdict == "well supported":
        return (
            "If the scan showed solid in place of the pore, the model would not "
            f"produce the pore. It survives {100 * survival:.0f} % of the tests with "
            f"added noise: the scan shows it{visible}."
        )
    return (
        f"If the scan showed solid in place of the pore, {100 * remains:.0f} % of "
        "the pore's contrast would remain in the result. The pore survives "
        f"{100 * survival:.0f} % of the tests with added noise: the scan shows it "
        f"only weakly{visible}."
    )


def _pore(request: AttributionRequest) -> _Pore:
    """Locate the pore, the voxels to replace, and the solid around it."""
    if request.threshold is None:
        raise ConfigError(
            "The method 'evidence' needs the grey value that separates pores from "
            "solid: give a threshold (--threshold)."
        )
    scene = request.scene
    scale = scene.layout.scale
    region = scene.clipped(request.region, _AROUND + request.margin * max(scale))
    mask = np.zeros([part.stop - part.start for part in region], bool)
    mask[
        tuple(
            slice(part.start - wide.start, part.stop - wide.start)
            for part, wide in zip(request.region, region, strict=True)
        )
    ] = request.mask
    wider = replace(request, region=region, mask=mask, memory={})
    window = wider.window
    values = window.values()
    pores = _is_pore(wider, values)
    coarse = _coarse(wider, mask)
    others = _coarse(wider, pores & ~mask) & ~coarse
    own = _grown(coarse, request.margin) & ~others
    around = _grown(coarse, request.margin + _AROUND) & ~own & ~_coarse(wider, pores)
    if around.sum() < _MIN_SOLID:  # the pore is surrounded by other pores
        around = _inside(wider) & ~own & ~_coarse(wider, pores)
    solid = ~pores & ~mask
    if around.sum() < _MIN_SOLID or solid.sum() < _MIN_SOLID:
        raise VolumeError(
            "There is too little solid near the pore to estimate the grey value that "
            "would replace it. Check the threshold (--threshold)."
        )
    return _Pore(
        wider,
        own,
        fill=float(window.network_input[around].mean()),
        solid=float(values[solid].mean()),
        sign=1.0 if request.phase == "dark" else -1.0,
    )


def _is_pore(request: AttributionRequest, values: AnyArray) -> AnyArray:
    """Return the voxels of a result on the pores' side of the threshold."""
    assert request.threshold is not None
    greys = request.window.grey(values)
    pores: AnyArray = (
        greys <= request.threshold
        if request.phase == "dark"
        else greys > request.threshold
    )
    return pores


def _coarse(request: AttributionRequest, mask: AnyArray) -> AnyArray:
    """Return the voxels of the window that contain a voxel of the region's `mask`."""
    window = request.window
    places = np.argwhere(mask) + [part.start for part in request.region]
    places = places // window.scale - [part.start for part in window.place]
    coarse = np.zeros(window.network_input.shape, bool)
    coarse[tuple(places.T)] = True
    return coarse


def _inside(request: AttributionRequest) -> AnyArray:
    """Return the voxels of the window that lie in the region."""
    whole = np.ones([part.stop - part.start for part in request.region], bool)
    return _coarse(request, whole)


def _grown(mask: AnyArray, by: int) -> AnyArray:
    """Dilate a mask by a Euclidean distance in voxels."""
    from scipy import ndimage

    if by == 0:
        return mask
    distances = ndimage.distance_transform_edt(~mask)
    grown: AnyArray = distances <= by
    return grown


def _smoothed(network_input: AnyArray) -> AnyArray:
    """Estimate noise-free grey values, precisely enough to find the noise level."""
    from scipy import ndimage

    greys: AnyArray = ndimage.uniform_filter(
        network_input.astype(np.float64), 3, mode="nearest"
    )
    return greys


def _noisier(request: AttributionRequest) -> Window:
    """Return the window with the network for noise that is √2 times as strong."""
    network = request.network_for_noise(math.sqrt(2))
    if network is request.scene.network:
        return request.window
    return replace(request.scene, network=network).window(request.region)


def _support(pore: _Pore, fresh: NoiseGenerator) -> float | None:
    """Return the contrast of the scan at the pore, in standard deviations of its noise.

    This is a matched filter: a mean weighted by the blurred pore fraction of each
    voxel.
    """
    window = pore.request.window
    weights = _shares(pore.request)
    contrast = pore.sign * float((weights * (pore.fill - window.network_input)).sum())
    box = tuple(
        slice(max(0, int(i.min())), int(i.max()) + 1) for i in np.nonzero(weights)
    )
    spread = fresh.spread(weights[box], pore.fill, _FILTER_DRAWS)
    return contrast / spread if spread > 0 else None


def _shares(request: AttributionRequest) -> AnyArray:
    """Return the blurred pore fraction of each voxel of the window, with a sum of 1."""
    from scipy import ndimage

    window = request.window
    places = np.argwhere(request.mask) + [part.start for part in request.region]
    places = places // window.scale - [part.start for part in window.place]
    shares = np.zeros(window.network_input.shape)
    np.add.at(shares, tuple(places.T), 1.0)
    widths = [_BLUR if n > 1 else 0.0 for n in shares.shape]
    if request.scene.layout.ndim == 2:
        widths[0] = 0.0
    blurred = ndimage.gaussian_filter(shares, widths, truncate=3.0)
    weights: AnyArray = blurred / blurred.sum()
    return weights
