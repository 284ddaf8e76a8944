"""Filters of filtered back-projection, and weights of the projections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.angles import Arc, distinct_angles, gaps_between

if TYPE_CHECKING:
    from torch import Tensor

FilterName = Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"]
Padding = Literal["zero", "edge"]
Floats = npt.NDArray[np.float64]


def filter_response(name: FilterName, length: int) -> Floats:
    """Return the filter response at the frequencies of ``rfft`` of `length` samples.

    The ramp is built from its spatial taps (1/4, then -1/(πn)² at odd n), which
    preserves the mean of a slice; the other filters are the ramp times a window.
    """
    n = np.minimum(np.arange(length), length - np.arange(length))
    taps = np.zeros(length)
    odd = n % 2 == 1
    taps[odd] = -1 / (np.pi * n[odd]) ** 2
    taps[0] = 0.25
    f = np.fft.rfftfreq(length)
    windows = {
        "ramp": np.ones_like(f),
        "shepp-logan": np.sinc(f),
        "cosine": np.cos(np.pi * f),
        "hamming": 0.54 + 0.46 * np.cos(2 * np.pi * f),
        "hann": 0.5 + 0.5 * np.cos(2 * np.pi * f),
    }
    response: Floats = np.fft.rfft(taps).real * windows[name]
    return response


def filter_rows(
    sinogram: Tensor, name: FilterName, pixel_size: float, padding: Padding = "zero"
) -> Tensor:
    """Filter projections along their last axis; differentiable.

    Parameters
    ----------
    sinogram : Tensor of shape (..., column), float32
    name : str
        Name of the filter.
    pixel_size : float
        Distance between columns; the result is per unit of this length.
    padding : {"zero", "edge"}
        Assumed values outside the detector. Repeating the edge reduces the bright rim
        of a sample that is wider than the detector.
    """
    import torch
    from scipy import fft

    n = sinogram.shape[-1]
    length = fft.next_fast_len(2 * n, real=True)
    if padding == "edge":
        after = (length - n) // 2
        before = length - n - after
        flat = sinogram.reshape(-1, 1, n)
        # The FFT is periodic: values before the first sample go to the end.
        wide = torch.nn.functional.pad(flat, (before, after), mode="replicate")
        padded = torch.roll(wide, -before, dims=-1).reshape(*sinogram.shape[:-1], -1)
    else:
        padded = torch.nn.functional.pad(sinogram, (0, length - n))
    response = torch.from_numpy(filter_response(name, length) / pixel_size)
    spectrum = torch.fft.rfft(padded) * response.to(sinogram)
    filtered: Tensor = torch.fft.irfft(spectrum, n=length)[..., :n]
    return filtered


def angle_weights(angles: Floats, unseen: Iterable[Arc] = ()) -> Floats:
    """Return the share of half a turn, in radians, that each projection represents.

    The share is half the distance between the two neighbouring angles, so angles may be
    uneven, in any order, and cover more than half a turn. A missing wedge is not
    filled: its neighbours get no higher weights than other views. The weights of a
    complete scan sum to π.

    Parameters
    ----------
    angles : ndarray of shape (n_angles,)
        Angles of the projections, in degrees.
    unseen : iterable of (float, float)
        Start and width, in degrees, of known missing wedges, including those that the
        gaps between angles do not reveal.
    """
    places, inverse, counts = distinct_angles(angles, 180.0)
    gaps = gaps_between(places, 180.0, unseen)
    share = np.deg2rad((gaps + np.roll(gaps, 1)) / 2)
    weights: Floats = (share / counts)[inverse]
    return weights
