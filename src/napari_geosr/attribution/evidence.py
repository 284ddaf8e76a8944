"""Evidence of a pore: what of it remains where the scan does not show it.

The voxels of the scan at a pore and next to it are replaced by solid with fresh noise
of the scan's own level and correlation, several times, and the network restores that.
What remains of the pore's darkness was not made from its own place: it was learned.
Second, noise as strong as the scan's is added everywhere, and the network is told so: a
pore that the noise made by chance should not survive that. Third, the contrast of the
scan itself at the pore is weighed against its noise by a matched filter: the pore as
the scanner would show it.

Such ablations are known from classifiers [1]_ [2]_; here, what replaces a patch is
drawn like the scan itself.

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
HELP = "Whether the pore at this place would be drawn without the scan showing it."

Verdict = Literal["well supported", "weak", "prior only"]

#: A pore is of the prior if at least this share of its darkness remains without the
#: scan showing it, and well supported if at most that share does
_PRIOR, _SUPPORTED = 0.5, 0.2
#: and it survives at least this share of noises
_SURVIVES = 0.75
#: and the scan shows it by this many standard deviations of the noise.
_SHOWN = 4.0
#: Blur of the scan that the matched filter stands for, in voxels of the scan.
_BLUR = 0.7
#: Noises that the spread of the matched filter is taken from.
_FILTERED = 200
#: Minimum share that is distinguished from zero.
_LEAST = 0.01
#: Voxels of the result around a pore whose solid it is compared with.
_AROUND = 3
#: Voxels of solid that a mean needs.
_ENOUGH = 8


@dataclass(frozen=True, eq=False)
class _Pore:
    """A pore in a window with some solid around it.

    Attributes
    ----------
    question : AttributionRequest
        Of the larger region.
    own : ndarray of bool
        Its own input neighbourhood, in the window.
    fill : float
        Grey value of the solid next to it in the scan, standardised.
    solid : float
        The same of the result.
    sign : float
        1 for dark pores, -1 for bright ones.
    """

    question: AttributionRequest
    own: AnyArray
    fill: float
    solid: float
    sign: float

    def contrast(self, values: AnyArray) -> float:
        """How much darker than the solid the pore is (brighter, for bright ones)."""
        return self.sign * (self.solid - float(values[self.question.mask].mean()))

    def is_drawn(self, values: AnyArray) -> bool:
        """Whether most of its voxels are pore."""
        inside = _is_pore(self.question, values)[self.question.mask]
        return bool(inside.mean() >= 0.5)


def explain(question: AttributionRequest) -> Generator[Step, None, AttributionResult]:
    """Restore the pore without its own voxels, and with more noise.

    Raises
    ------
    ConfigError
        If no threshold is given.
    VolumeError
        If there is no solid next to the pore.
    """
    yield StageStarted(message="Weighing the evidence")
    pore = _pore(question)
    window = pore.question.window
    fresh = NoiseGenerator(pore.question)
    darkness = pore.contrast(window.values())
    without, kept = [], []
    smooth = _smoothed(window.seen)
    # Added noise makes √2 times the noise of the scan.
    noisier = _noisier(pore.question)
    for i in range(question.draws):
        emptied = window.seen.astype(np.float64)
        greys = np.full(window.seen.shape, pore.fill)
        emptied[pore.own] = (greys + fresh.draw(greys))[pore.own]
        without.append(pore.contrast(window.values(emptied)))
        noisy = noisier.values(window.seen + fresh.draw(smooth))
        kept.append((pore.contrast(noisy), pore.is_drawn(noisy)))
        yield BlockDone(i + 1, question.draws)
    remains = max(0.0, float(np.mean(without)) / darkness) if darkness > 0 else 1.0
    survival = float(np.mean([drawn for _, drawn in kept]))
    support = _support(pore, fresh)
    verdict = _verdict(remains, survival, support)
    std = question.scene.statistics.output_std
    spread = float(np.std(without, ddof=1)) if len(without) > 1 else 0.0
    figures = {
        "verdict": verdict,
        "log_ratio": -math.log(max(remains, _LEAST)),
        "remains": remains,
        "survival": survival,
        "darkness": darkness * std,
        "darkness_without": float(np.mean(without)) * std,
        "darkness_without_sd": spread * std,
        "darkness_renoised": float(np.mean([d for d, _ in kept])) * std,
        "support": support,
        "voxels": int(question.mask.sum()),
        "draws": question.draws,
    }
    notes: tuple[str, ...] = ()
    if not fresh.is_measured:
        notes = ("The noise of the scan could not be measured; its bound was drawn.",)
    overlay = Attribution(
        window.place, pore.own.astype(np.float32), "what was replaced by solid"
    )
    sentence = _sentence(verdict, remains, survival, support)
    return AttributionResult(figures, sentence, overlay, notes)


def _verdict(remains: float, survival: float, support: float | None) -> Verdict:
    if remains >= _PRIOR:
        return "prior only"
    shown = support is None or support >= _SHOWN
    if remains <= _SUPPORTED and survival >= _SURVIVES and shown:
        return "well supported"
    return "weak"


def _sentence(
    verdict: Verdict, remains: float, survival: float, support: float | None
) -> str:
    shown = "" if support is None else f", {support:.1f} times the noise"
    if verdict == "prior only":
        return (
            f"Without the input there, {remains:.0%} of its darkness would remain: it "
            "was learned, and the scan does not show it."
        )
    if verdict == "well supported":
        return (
            "Without the input there it would not be drawn, and it survives "
            f"{survival:.0%} of further noises: the scan shows it{shown}."
        )
    return (
        f"Without the input there, {remains:.0%} of its darkness would remain, and it "
        f"survives {survival:.0%} of further noises: the scan shows it weakly{shown}."
    )


def _pore(question: AttributionRequest) -> _Pore:
    """The pore with its surroundings: what is replaced, and by what."""
    if question.threshold is None:
        raise ConfigError(
            "Evidence of a pore needs the grey value between pore and solid: give "
            "a threshold (--threshold)."
        )
    scene = question.scene
    scale = scene.layout.scale
    region = scene.clipped(question.region, _AROUND + question.margin * max(scale))
    mask = np.zeros([part.stop - part.start for part in region], bool)
    mask[
        tuple(
            slice(part.start - wide.start, part.stop - wide.start)
            for part, wide in zip(question.region, region, strict=True)
        )
    ] = question.mask
    wider = replace(question, region=region, mask=mask, memory={})
    window = wider.window
    values = window.values()
    pores = _is_pore(wider, values)
    coarse = _coarse(wider, mask)
    others = _coarse(wider, pores & ~mask) & ~coarse
    own = _grown(coarse, question.margin) & ~others
    around = _grown(coarse, question.margin + _AROUND) & ~own & ~_coarse(wider, pores)
    if around.sum() < _ENOUGH:  # a pore of many neighbours
        around = _inside(wider) & ~own & ~_coarse(wider, pores)
    solid = ~pores & ~mask
    if around.sum() < _ENOUGH or solid.sum() < _ENOUGH:
        raise VolumeError(
            "There is no solid next to the pore, so its grey value without the pore "
            "cannot be estimated. Check the threshold (--threshold)."
        )
    return _Pore(
        wider,
        own,
        fill=float(window.seen[around].mean()),
        solid=float(values[solid].mean()),
        sign=1.0 if question.phase == "dark" else -1.0,
    )


def _is_pore(question: AttributionRequest, values: AnyArray) -> AnyArray:
    """Voxels of the standardised result on the pores' side of the threshold."""
    assert question.threshold is not None
    greys = question.window.grey(values)
    found: AnyArray = (
        greys <= question.threshold
        if question.phase == "dark"
        else greys > question.threshold
    )
    return found


def _coarse(question: AttributionRequest, mask: AnyArray) -> AnyArray:
    """Voxels of the window that hold a voxel of the region's `mask`."""
    window = question.window
    places = np.argwhere(mask) + [part.start for part in question.region]
    places = places // window.scale - [part.start for part in window.place]
    found = np.zeros(window.seen.shape, bool)
    found[tuple(places.T)] = True
    return found


def _inside(question: AttributionRequest) -> AnyArray:
    """Voxels of the window that lie in the region."""
    whole = np.ones([part.stop - part.start for part in question.region], bool)
    return _coarse(question, whole)


def _grown(mask: AnyArray, by: int) -> AnyArray:
    """Dilate a mask by a number of voxels, within the available planes."""
    from scipy import ndimage

    if by == 0:
        return mask
    places = ndimage.distance_transform_edt(~mask)
    found: AnyArray = places <= by
    return found


def _smoothed(seen: AnyArray) -> AnyArray:
    """Rough noise-free grey values: noise depends little on them."""
    from scipy import ndimage

    found: AnyArray = ndimage.uniform_filter(seen.astype(np.float64), 3, mode="nearest")
    return found


def _noisier(question: AttributionRequest) -> Window:
    """The window, with a network that is told the noise of a noisier scan."""
    network = question.told(math.sqrt(2))
    if network is question.scene.network:
        return question.window
    return replace(question.scene, network=network).window(question.region)


def _support(pore: _Pore, fresh: NoiseGenerator) -> float | None:
    """Contrast of the scan at the pore, in standard deviations of its noise.

    A matched filter: the mean with the pore's share of every voxel, blurred as a scan
    is, for weights.
    """
    window = pore.question.window
    weights = _shares(pore.question)
    contrast = pore.sign * float((weights * (pore.fill - window.seen)).sum())
    box = tuple(
        slice(max(0, int(i.min())), int(i.max()) + 1) for i in np.nonzero(weights)
    )
    spread = fresh.spread(weights[box], pore.fill, _FILTERED)
    return contrast / spread if spread > 0 else None


def _shares(question: AttributionRequest) -> AnyArray:
    """The share of every voxel of the window that is pore, blurred; its sum is 1."""
    from scipy import ndimage

    window = question.window
    places = np.argwhere(question.mask) + [part.start for part in question.region]
    places = places // window.scale - [part.start for part in window.place]
    shares = np.zeros(window.seen.shape)
    np.add.at(shares, tuple(places.T), 1.0)
    widths = [_BLUR if n > 1 else 0.0 for n in shares.shape]
    if question.scene.layout.ndim == 2:
        widths[0] = 0.0
    blurred = ndimage.gaussian_filter(shares, widths, truncate=3.0)
    found: AnyArray = blurred / blurred.sum()
    return found
