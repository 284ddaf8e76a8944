"""Joint Richardson–Lucy deconvolution of all frames of structured illumination.

References
----------
.. [1] Ströhl and Kaminski. A joint Richardson-Lucy deconvolution algorithm for the
   reconstruction of multifocal structured illumination microscopy data. Methods Appl.
   Fluoresc. 3, 014002 (2015). doi:10.1088/2050-6120/3/1/014002
.. [2] Dey et al. Richardson-Lucy algorithm with total variation regularization for 3D
   confocal microscope deconvolution. Microsc. Res. Tech. 69, 260-266 (2006).
   doi:10.1002/jemt.20294
.. [3] Snyder, Hammoud and White. Image recovery from data acquired with a
   charge-coupled-device camera. J. Opt. Soc. Am. A 10, 1014-1023 (1993).
   doi:10.1364/JOSAA.10.001014
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import IterationDone, ShouldStop, Step, never_stop
from napari_geosr.physics.illumination import IlluminationOperator

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float32]

#: Smallest expected value of a pixel, relative to the mean of the frames.
_FLOOR = 1e-3
#: Smallest weight by which an update is divided, relative to the largest.
_WEIGHT_FLOOR = 0.02
#: Number of iterations without improvement after which the search for the best number
#: of iterations ends.
_PATIENCE = 6
#: Factor for the best number of iterations, because this number is found with half of
#: the photons: with all photons, more iterations are useful.
_MORE = 1.15


class JointRichardsonLucy:
    """An object that is fitted to frames, one iteration at a time [1]_.

    Parameters
    ----------
    operator : IlluminationOperator
    frames : tensor of shape (frames, Y, X)
        Frames with the offset subtracted. Because of read noise, pixels without light
        are negative as often as positive.
    tv : float
        Weight of the total variation [2]_.
    shift : float
        Grey value that is added to measured and expected frames
        (`napari_geosr.sim.noise.FrameNoise.shift`): a Poisson distribution with this
        mean approximates the read noise [3]_. Values that are still negative are
        clipped; without a shift, clipping would brighten dark areas.
    """

    def __init__(
        self,
        operator: IlluminationOperator,
        frames: torch.Tensor,
        tv: float = 0.0,
        *,
        shift: float,
    ) -> None:
        self.operator, self.frames, self.tv = operator, frames, tv
        self.shift = shift
        self.shifted = (frames + shift).clamp(min=0)
        mean = float(self.shifted.mean()) - shift
        self.floor = max(_FLOOR * mean, 1e-12)
        self.image = frames.new_full(operator.grid.fine, max(mean, self.floor))
        weight = operator.adjoint(frames.new_ones(frames.shape))
        least = _WEIGHT_FLOOR * float(weight.max())
        self.weight = 1 / weight.clamp(min=least)

    def expected(self) -> torch.Tensor:
        """Return the noise-free frames of the current object."""
        return self.operator.forward(self.image).clamp(min=self.floor)

    def step(self, expected: torch.Tensor | None = None) -> None:
        """Do one iteration; pass `expected` if it has already been computed."""
        expected = self.expected() if expected is None else expected
        ratio = self.shifted / (expected + self.shift)
        update = self.operator.adjoint(ratio) * self.weight
        image = self.image * update.clamp(min=0)
        if self.tv:
            image = image / (1 - self.tv * _divergence(self.image)).clamp(min=0.2)
        self.image = image

    def result(self) -> FloatArray:
        """Return the object within the field of view, on the fine grid."""
        rows, columns = self.operator.grid.inside_fine
        values: FloatArray = self.image[rows, columns].cpu().numpy()
        return values


def _divergence(image: torch.Tensor) -> torch.Tensor:
    """Return the divergence of the normalised gradient."""
    dy, dx = image.new_zeros(image.shape), image.new_zeros(image.shape)
    dy[:-1] = image[1:] - image[:-1]
    dx[:, :-1] = image[:, 1:] - image[:, :-1]
    size = (dy**2 + dx**2 + (1e-6 * image.mean()) ** 2 + 1e-20).sqrt()
    dy, dx = dy / size, dx / size
    found = dy + dx
    found[1:] -= dy[:-1]
    found[:, 1:] -= dx[:, :-1]
    return found


@dataclass(frozen=True)
class HeldOutCurve:
    """Misfit of held-out photons after 0, 1, 2, … iterations.

    Attributes
    ----------
    misfit : tuple of float
        Mean squared difference in units of the noise; 1 for the noise alone.
    best : int
        Best number of iterations for a fit to all photons.
    """

    misfit: tuple[float, ...]
    best: int


def thinned(
    frames: FloatArray, variance: FloatArray, seed: int = 0
) -> tuple[FloatArray, FloatArray]:
    """Return two sets of frames with independent noise, as with half the photons each.

    Noise of the same variance is added to one set and subtracted from the other; both
    sets have the brightness of `frames`.

    Parameters
    ----------
    frames : ndarray
    variance : ndarray
        Variance of each pixel; broadcast to the frames.
    """
    rng = np.random.default_rng(seed)
    extra = rng.standard_normal(frames.shape, dtype=np.float32) * np.sqrt(variance)
    return (frames + extra).astype(np.float32), (frames - extra).astype(np.float32)


def best_iterations(
    operator: IlluminationOperator,
    frames: FloatArray,
    variance: FloatArray,
    *,
    most: int,
    shift: float,
    tv: float = 0.0,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, HeldOutCurve]:
    """Find the number of iterations after which held-out photons are predicted best.

    Parameters
    ----------
    operator : IlluminationOperator
    frames : ndarray of shape (frames, Y, X)
    variance : ndarray
        Variance of each pixel; broadcast to the frames.
    most : int
        Maximum number of iterations.
    shift : float
        See `JointRichardsonLucy`.
    tv : float
    """
    import torch

    kept, held = thinned(frames, variance)
    device = operator.basis.device
    # Gain and variance of the halves are both doubled, so the shift is the same.
    fit = JointRichardsonLucy(
        operator, torch.from_numpy(kept).to(device), tv, shift=shift
    )
    target = torch.from_numpy(held).to(device)
    scale = torch.from_numpy(np.broadcast_to(2 * variance, frames.shape).copy())
    scale = scale.to(device)
    misfit: list[float] = []
    for i in range(most):
        if should_stop():
            raise Cancelled("Stopped while the number of iterations was being chosen.")
        with torch.inference_mode():
            expected = fit.expected()
            misfit.append(float(((expected - target) ** 2 / scale).mean()))
            fit.step(expected)
        yield IterationDone(i + 1, most, iteration=i + 1, iterations=most)
        best = int(np.argmin(misfit))
        if i - best >= _PATIENCE:
            break
    best = max(1, int(np.argmin(misfit)))
    return HeldOutCurve(tuple(misfit), min(most, max(1, round(_MORE * best))))
