"""Image formation with structured illumination, and its adjoint.

An object on a fine grid is multiplied by each pattern, blurred by the objective and
sampled by the camera. Outside the frame, where the object is unknown, the grid has a
margin that no pixel constrains. Frequencies above the camera's Nyquist frequency, which
would cause aliasing, are omitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.physics.illumination.otf import Otf

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float32]

#: Margin around a frame, in periods of the cut-off frequency.
_MARGIN = 4.0


@dataclass(frozen=True)
class SimGrid:
    """The camera's grid with its margin, and the fine grid of the object.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of a frame.
    upscale_factor : int
        Fine pixels per camera pixel along each axis.
    padded : (int, int)
        Rows and columns of a frame with its margin.
    margin : (int, int)
        Rows above and columns to the left of the frame.
    """

    shape: tuple[int, int]
    upscale_factor: int
    padded: tuple[int, int]
    margin: tuple[int, int]

    @classmethod
    def around(
        cls, shape: Sequence[int], upscale_factor: int, cut_off: float
    ) -> SimGrid:
        """Create the grid with a margin of a few cut-off periods."""
        from scipy import fft

        margin = math.ceil(_MARGIN / cut_off)
        padded = [2 * fft.next_fast_len((n + 2 * margin + 1) // 2) for n in shape]
        left = [(p - n) // 2 for p, n in zip(padded, shape, strict=True)]
        return cls(
            (shape[0], shape[1]),
            upscale_factor,
            (padded[0], padded[1]),
            (left[0], left[1]),
        )

    @property
    def fine(self) -> tuple[int, int]:
        """Rows and columns of the fine grid, with the margin."""
        y, x = self.padded
        return y * self.upscale_factor, x * self.upscale_factor

    @property
    def inside(self) -> tuple[slice, slice]:
        """Slices of the padded camera grid that contain the frame."""
        y, x = (slice(m, m + n) for m, n in zip(self.margin, self.shape, strict=True))
        return y, x

    @property
    def inside_fine(self) -> tuple[slice, slice]:
        """Slices of the fine grid that contain the frame."""
        s = self.upscale_factor
        y, x = (slice(part.start * s, part.stop * s) for part in self.inside)
        return y, x

    def positions(
        self,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return positions of fine pixels, in camera pixels from the frame's centre.

        Returns
        -------
        y, x : ndarray of shape (rows, 1) and (1, columns), float64
        """
        s = self.upscale_factor
        found = []
        for n, m, length in zip(self.fine, self.margin, self.shape, strict=True):
            at = (np.arange(n) - (s - 1) / 2) / s - m - (length - 1) / 2
            found.append(at)
        return found[0][:, None], found[1][None, :]


@dataclass(eq=False)
class IlluminationOperator:
    """Linear map from an object to the frames of one plane.

    The frames are linear combinations of a few images: the object multiplied by 1 and
    by the cosine and sine of each harmonic, blurred and sampled. This requires fewer
    Fourier transforms than blurring each frame separately.

    Attributes
    ----------
    grid : SimGrid
    basis : tensor of shape (terms, fine rows, fine columns), float32
    mixing : tensor of shape (frames, terms), float32
        Weights of the terms in each frame.
    transfer : tensor of shape (rows, columns // 2 + 1), complex64
        Transfer function of the padded camera grid, including the sub-pixel offset
        between the two grids.
    """

    grid: SimGrid
    basis: torch.Tensor = field(repr=False)
    mixing: torch.Tensor = field(repr=False)
    transfer: torch.Tensor = field(repr=False)

    @classmethod
    def create(
        cls,
        patterns: PatternSet,
        otf: Otf,
        upscale_factor: int,
        device: str = "cpu",
    ) -> IlluminationOperator:
        """Create the operator of a microscope.

        Parameters
        ----------
        patterns : PatternSet
        otf : Otf
        upscale_factor : int
        device : str

        Raises
        ------
        ConfigError
            If the patterns are images that do not fit the fine grid.
        """
        import torch

        grid = SimGrid.around(patterns.shape, upscale_factor, otf.cut_off)
        if patterns.images is not None:
            basis = _pattern_images(patterns, grid)
            mixing = np.eye(len(basis))
        else:
            basis, mixing = _fringe_terms(patterns, grid)
        return cls(
            grid,
            torch.from_numpy(basis).to(device),
            torch.from_numpy(mixing.astype(np.float32)).to(device),
            torch.from_numpy(_transfer(otf, grid)).to(device),
        )

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.mixing)

    def with_mixing(self, mixing: npt.NDArray[np.floating]) -> IlluminationOperator:
        """Return the operator for other phases, modulations and intensities."""
        values = self.mixing.new_tensor(np.asarray(mixing, np.float32))
        return IlluminationOperator(self.grid, self.basis, values, self.transfer)

    def terms(self, image: torch.Tensor) -> torch.Tensor:
        """Multiply the object by each term of the patterns, then blur and sample it.

        Parameters
        ----------
        image : tensor of shape (fine rows, fine columns)

        Returns
        -------
        tensor of shape (terms, Y, X)
        """
        import torch

        inside = self.grid.inside
        return torch.stack([self._sampled(image * term)[inside] for term in self.basis])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the noise-free frames of an object.

        Parameters
        ----------
        image : tensor of shape (fine rows, fine columns)

        Returns
        -------
        tensor of shape (frames, Y, X)
        """
        terms = self.terms(image)
        frames = self.mixing @ terms.flatten(1)
        return frames.reshape(-1, *terms.shape[1:])

    def adjoint(self, frames: torch.Tensor) -> torch.Tensor:
        """Apply the transpose of `forward`, from frames to the fine grid."""
        inside = self.grid.inside
        terms = self.mixing.T @ frames.flatten(1)
        terms = terms.reshape(-1, *frames.shape[1:])
        out = frames.new_zeros(self.grid.fine)
        padded = frames.new_zeros(self.grid.padded)
        for term, values in zip(self.basis, terms, strict=True):
            padded[inside] = values
            out += term * self._spread(padded)
        return out

    def _sampled(self, fine: torch.Tensor) -> torch.Tensor:
        """Blur on the fine grid and sample on the padded camera grid."""
        import torch

        rows, columns = self.grid.padded
        spectrum = torch.fft.rfft2(fine)
        half = rows // 2
        kept = torch.cat(
            [spectrum[:half, : columns // 2 + 1], spectrum[-half:, : columns // 2 + 1]]
        )
        scale = 1 / self.grid.upscale_factor**2
        sampled: torch.Tensor = torch.fft.irfft2(
            kept * (self.transfer * scale), s=(rows, columns)
        )
        return sampled

    def _spread(self, camera: torch.Tensor) -> torch.Tensor:
        """Apply the transpose of `_sampled`."""
        import torch

        rows, columns = self.grid.padded
        fine_rows, fine_columns = self.grid.fine
        kept = torch.fft.rfft2(camera) * self.transfer.conj()
        half = rows // 2
        spectrum = kept.new_zeros((fine_rows, fine_columns // 2 + 1))
        spectrum[:half, : columns // 2 + 1] = kept[:half]
        spectrum[-half:, : columns // 2 + 1] = kept[half:]
        spread: torch.Tensor = torch.fft.irfft2(spectrum, s=(fine_rows, fine_columns))
        return spread


def fringe_values(patterns: PatternSet, grid: SimGrid) -> FloatArray:
    """Return the illumination of every frame on the fine grid, with its margin.

    Returns
    -------
    ndarray of shape (frames, fine rows, fine columns), float32
    """
    if patterns.images is not None:
        return _pattern_images(patterns, grid)
    basis, mixing = _fringe_terms(patterns, grid)
    values: FloatArray = np.tensordot(mixing.astype(np.float32), basis, axes=1)
    return values


def _fringe_terms(
    patterns: PatternSet, grid: SimGrid
) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    """Return the terms 1, cos, sin … of all angles, and their weights in each frame."""
    y, x = (np.ravel(positions) for positions in grid.positions())
    n_terms = 1 + sum(2 * fringe.harmonics for fringe in patterns.fringes)
    # All terms together may need gigabytes, so they are computed in place.
    basis = np.empty((n_terms, *grid.fine), np.float32)
    basis[0] = 1
    product = np.empty(grid.fine, np.float32)
    mixing = np.zeros((patterns.n_frames, n_terms))
    row, column = 0, 1
    for fringe in patterns.fringes:
        weights = fringe.mixing()
        for h in range(1, fringe.harmonics + 1):
            real, imaginary = basis[column + 2 * h - 2 : column + 2 * h]
            down, along = (
                np.exp(2j * np.pi * h * k * at)
                for k, at in zip(fringe.wave_vector, (y, x), strict=True)
            )
            for out, one, other, sign in (
                (real, down.real, down.imag, -1),
                (imaginary, down.imag, down.real, 1),
            ):
                _outer(one, along.real, out)
                _outer(sign * other, along.imag, product)
                out += product
        rows = slice(row, row + len(weights))
        mixing[rows, 0] = weights[:, 0]
        mixing[rows, column : column + 2 * fringe.harmonics] = weights[:, 1:]
        row, column = rows.stop, column + 2 * fringe.harmonics
    return basis, mixing


def _outer(
    column: npt.NDArray[np.float64], row: npt.NDArray[np.float64], out: FloatArray
) -> None:
    """Multiply a column by a row, in single precision."""
    np.multiply(
        column.astype(np.float32)[:, None], row.astype(np.float32)[None], out=out
    )


def _pattern_images(patterns: PatternSet, grid: SimGrid) -> FloatArray:
    """Return the user's patterns on the fine grid, extended by their edge values."""
    images = patterns.images
    assert images is not None
    fine = tuple(n * grid.upscale_factor for n in grid.shape)
    given = images.shape[1:]
    times = [f // n if f % n == 0 else 0 for f, n in zip(fine, given, strict=True)]
    if 0 in times:
        raise ConfigError(
            f"The patterns have {images.shape[1]} × {images.shape[2]} pixels; "
            f"{fine[0]} × {fine[1]} are needed, or this size divided by integers. "
            "Resample them, or change the upscale factor (--upscale-factor)."
        )
    images = images.repeat(times[0], axis=1).repeat(times[1], axis=2)
    pads = [
        (part.start, n - part.stop)
        for part, n in zip(grid.inside_fine, grid.fine, strict=True)
    ]
    return np.pad(images, ((0, 0), *pads), mode="edge").astype(np.float32)


def _transfer(otf: Otf, grid: SimGrid) -> npt.NDArray[np.complex64]:
    """Return the transfer function of the padded grid; 0 at the Nyquist frequency."""
    rows, columns = grid.padded
    fy = np.fft.fftfreq(rows)[:, None]
    fx = np.fft.rfftfreq(columns)[None]
    value = otf.at(fy, fx).astype(np.complex64)
    offset = (grid.upscale_factor - 1) / (2 * grid.upscale_factor)
    value = value * np.exp(2j * np.pi * offset * (fy + fx))
    value[rows // 2] = 0
    value[:, columns // 2] = 0
    return value.astype(np.complex64)
