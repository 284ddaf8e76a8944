"""Define windows of a scan: differentiable maps from its voxels to the result.

Only the region and the network's halo around it are read, because other voxels cannot
change the result (`napari_geosr.inference.receptive_field`). The map is therefore the
same for a volume of any size. Beyond the border, a 2.5D network receives reflected
planes, which are assembled here from voxels of the scan, so that gradients refer to
real voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import (
    Cancelled,
    DeviceMemoryError,
    EngineError,
    GeoSRError,
    ModelError,
    VolumeError,
)
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference import compute
from napari_geosr.inference.memory import network_spec
from napari_geosr.inference.tiles.tiling import (
    Box,
    Layout,
    Tile,
    lay_out,
    reflect,
    window_along,
)
from napari_geosr.inference.windows import NonFinite, Standardisation, WindowReader

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Maximum number of voxels in a window; if the receptive field of a network is
#: unlimited, the window is the whole volume.
_MAX_VOXELS = 1 << 26
#: Maximum number of voxels in a window for finite differences, which take two forward
#: passes per voxel.
_MAX_DIFFERENCES = 6000
#: Step of finite differences, in standard deviations of the scan.
_STEP = 1e-2

#: Function that maps the network's result for a region to one number.
Score = Callable[["torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class ExplainedScan:
    """A scan and the network that restores it, with the settings of the restoration.

    Attributes
    ----------
    source : ArrayLike
        The scan, 2D or 3D.
    statistics : Standardisation
        Standardisation of the whole volume.
    """

    network: nn.Module
    source: ArrayLike
    statistics: Standardisation
    device: str = "cpu"
    threads: int | None = None
    nonfinite: NonFinite = "mean"
    should_stop: ShouldStop = never_stop

    @property
    def layout(self) -> Layout:
        return lay_out(self.source.shape, network_spec(self.network))

    @property
    def result_shape(self) -> tuple[int, int, int]:
        """Shape of the whole result in Z, Y, X; an image has one plane."""
        layout = self.layout
        z, y, x = (n * s for n, s in zip(layout.shape, layout.scale, strict=True))
        return z, y, x

    def window(self, region: Box) -> Window:
        """Read the voxels on which a region of the result depends."""
        return Window(self, region)

    def clipped(self, region: Sequence[slice], by: int = 0) -> Box:
        """Extend a region by a number of voxels, but not beyond the result."""
        flat = self.layout.ndim == 2
        z, y, x = (
            slice(max(0, part.start - grow), min(n, part.stop + grow))
            for part, n, grow in zip(
                region, self.result_shape, (0 if flat else by, by, by), strict=True
            )
        )
        return z, y, x


class Window:
    """Input voxels of a region of the result, and the network that computes the region.

    Attributes
    ----------
    region : Box
        Box in the result, in Z, Y, X.
    place : Box
        Box in the scan that is read.
    network_input : ndarray of shape (Z, Y, X)
        Input of the network: the standardised voxels of this box, with invalid voxels
        replaced.
    n_missing : int
        Number of NaN and infinite voxels in the box.
    """

    def __init__(self, scene: ExplainedScan, region: Box) -> None:
        self.scene, self.region = scene, region
        layout = self.layout = scene.layout
        compute.check_ready(scene.network)
        if network_spec(scene.network).n_outputs != 1:
            raise ModelError(
                "The mean of several members cannot be explained. Restore without "
                "uncertainty."
            )
        self._tile = _tile_for(layout, region)
        n_voxels = math.prod(self._tile.window_shape)
        if n_voxels > _MAX_VOXELS:
            raise ModelError(
                f"The network {type(scene.network).__name__} needs {n_voxels:,} input "
                "voxels for this region, too many to explain. Crop the scan, or choose "
                "a model with a smaller receptive field."
            )
        scene.network.to(scene.device)
        dtype = compute.network_dtype(scene.network)
        reader = WindowReader(
            scene.source, layout, scene.statistics, scene.nonfinite, dtype
        )
        block, _ = reader.read(self._tile)
        self._indices = self._positions()
        self.place: Box = tuple(
            slice(int(i.min()), int(i.max()) + 1) for i in self._indices
        )  # type: ignore[assignment]
        first = [_first_places(i, part.start) for i, part in self._pairs()]
        self.network_input: AnyArray = np.ascontiguousarray(block[np.ix_(*first)])
        self._local = [i - part.start for i, part in self._pairs()]
        self.n_missing = self._count_missing()

    def _pairs(self) -> list[tuple[AnyArray, slice]]:
        return list(zip(self._indices, self.place, strict=True))

    def _positions(self) -> list[AnyArray]:
        """Return the scan indices of the planes, rows and columns of a block."""
        positions = []
        for axis, part in enumerate(self._tile.window):
            context = self.layout.context if axis == 0 else 0
            indices = np.arange(part.start - context, part.stop + context)
            positions.append(reflect(indices, self.layout.shape[axis]))
        return positions

    def _count_missing(self) -> int:
        if np.dtype(self.scene.source.dtype).kind != "f":
            return 0
        place = self.place[3 - self.layout.ndim :]
        raw = np.asarray(self.scene.source[place])
        return int(raw.size - np.isfinite(raw).sum())

    @property
    def scale(self) -> tuple[int, int, int]:
        """Voxels of the result per voxel of the scan."""
        return self.layout.scale

    @property
    def network_window(self) -> Box:
        """Box that the network processes; may extend beyond the scan by padding."""
        return self._tile.window

    @property
    def gain(self) -> float:
        """Output standard deviation divided by the input standard deviation."""
        statistics = self.scene.statistics
        return statistics.output_std / statistics.input_std

    def grey(self, values: AnyArray) -> AnyArray:
        """Convert standardised values of the result to grey values."""
        statistics = self.scene.statistics
        scaled: AnyArray = (
            np.asarray(values, np.float64) * statistics.output_std
            + statistics.output_mean
        )
        return scaled

    def values(self, network_input: AnyArray | None = None) -> AnyArray:
        """Return the standardised values of the region.

        Parameters
        ----------
        network_input : ndarray, optional
            Input of the network; by default `self.network_input`.
        """
        import torch

        x = torch.from_numpy(
            self.network_input if network_input is None else self._like(network_input)
        )
        with _errors_translated(self), compute.exact_settings(self.scene.threads):
            block = self._block(x.to(self.scene.device))
            parts = [self._part(block, i) for i in range(self._n_parts)]
            out: AnyArray = torch.cat(parts).cpu().numpy()
        return out

    def values_after(
        self, network_input: AnyArray, changed: Sequence[slice], before: AnyArray
    ) -> AnyArray:
        """Return the values of the region after a change of the input in a box.

        For networks that process single planes, only the planes that depend on the box
        are computed; the others are copied from `before`.
        """
        import torch

        if not self.layout.per_plane:
            return self.values(network_input)
        n_channels = 2 * self.layout.context + 1
        sees = (self._local[0] >= changed[0].start) & (self._local[0] < changed[0].stop)
        planes = [i for i in range(self._n_parts) if sees[i : i + n_channels].any()]
        after = before.copy()
        x = torch.from_numpy(self._like(network_input))
        with _errors_translated(self), compute.exact_settings(self.scene.threads):
            block = self._block(x.to(self.scene.device))
            for i in planes:
                after[i] = self._part(block, i)[0].cpu().numpy()
        return after

    def gradient(
        self, score: Score, network_input: AnyArray | None = None
    ) -> tuple[float, AnyArray]:
        """Return a score of the region, and its gradient with respect to the input.

        For networks without gradients (such as filters that search for similar
        patches), finite differences are used if the window is small.

        Parameters
        ----------
        score : callable
            Function of the standardised result ``(Z, Y, X)`` of the region.

        Raises
        ------
        ModelError
            If the network has no gradients, and the window has too many voxels for
            finite differences.
        """
        import torch

        values = self.values(network_input)
        leaf = torch.from_numpy(values).requires_grad_(True)
        with torch.enable_grad():
            value = score(leaf)
            output_gradient = torch.autograd.grad(value, leaf)[0]
        if not self.is_differentiable:
            return float(value.detach()), self._differences(score, network_input)
        x = torch.from_numpy(
            self.network_input if network_input is None else self._like(network_input)
        )
        total = torch.zeros_like(x)
        for i in range(self._n_parts):  # keeps only one graph in memory
            part = output_gradient if self._n_parts == 1 else output_gradient[i : i + 1]
            if bool((part != 0).any()):
                total += self._input_gradient(x, i, part)
        return float(value.detach()), total.numpy()

    def _input_gradient(
        self, x: torch.Tensor, i: int, output_gradient: torch.Tensor
    ) -> torch.Tensor:
        import torch

        scene = self.scene
        leaf = x.to(scene.device).requires_grad_(True)
        with (
            _errors_translated(self),
            compute.exact_settings(scene.threads, gradients=True),
        ):
            out = self._part(self._block(leaf), i)
            gradient: torch.Tensor = torch.autograd.grad(
                out, leaf, output_gradient.to(scene.device)
            )[0]
        return gradient.detach().cpu()

    @cached_property
    def is_differentiable(self) -> bool:
        """Whether gradients pass through the network."""
        import torch

        scene = self.scene
        x = torch.from_numpy(self.network_input).to(scene.device).requires_grad_(True)
        with (
            _errors_translated(self),
            compute.exact_settings(scene.threads, gradients=True),
        ):
            return bool(self._part(self._block(x), 0).requires_grad)

    def _differences(self, score: Score, network_input: AnyArray | None) -> AnyArray:
        import torch

        start = (
            self.network_input if network_input is None else self._like(network_input)
        ).copy()
        if start.size > _MAX_DIFFERENCES:
            raise ModelError(
                f"The network {type(self.scene.network).__name__} has no gradients, "
                f"and its window of {start.size:,} voxels is too large for finite "
                f"differences (up to {_MAX_DIFFERENCES:,}). Use the methods occlusion "
                "and evidence, which need no gradients."
            )
        gradient = np.empty_like(start)
        for place in np.ndindex(start.shape):
            self._raise_if_stopped()
            middle, sides = start[place], []
            for step in (_STEP, -_STEP):
                start[place] = middle + step
                sides.append(float(score(torch.from_numpy(self.values(start)))))
            start[place] = middle
            gradient[place] = (sides[0] - sides[1]) / (2 * _STEP)
        return gradient

    def bias_part(self, score_gradient: AnyArray) -> tuple[float, float]:
        """Return the contribution of the network's additive constants to a score.

        It is ``Σ b · ∂f/∂b`` over the biases and the means of normalisation layers.
        Networks with rectifiers (ReLU) as activations are jointly homogeneous in voxels
        and biases, so that this contribution and ``Σ x · ∂f/∂x`` add up to the output
        (Euler's theorem). For other networks, the sum may differ.

        Parameters
        ----------
        score_gradient : ndarray
            Weights of the voxels of the result in the score.

        Returns
        -------
        contribution, size : float
            The sum over all terms, and the sum of their absolute values.
        """
        import torch
        from torch.func import functional_call

        scene = self.scene
        state: dict[str, torch.Tensor] = dict(scene.network.named_buffers())
        state.update(scene.network.named_parameters())
        constants = {
            name: value.detach().clone().requires_grad_(True)
            for name, value in state.items()
            if _is_constant(name) and value.is_floating_point()
        }
        if not constants:
            return 0.0, 0.0
        weights = torch.from_numpy(np.ascontiguousarray(score_gradient))
        x = torch.from_numpy(self.network_input).to(scene.device)
        total = size = 0.0

        def forward(voxels: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = functional_call(scene.network, constants, (voxels,))
            return out

        for i in range(self._n_parts):
            part = weights if self._n_parts == 1 else weights[i : i + 1]
            with (
                _errors_translated(self),
                compute.exact_settings(scene.threads, gradients=True),
            ):
                out = self._part(self._block(x), i, forward)
                slopes = torch.autograd.grad(
                    out,
                    list(constants.values()),
                    part.to(out),
                    allow_unused=True,
                )
            for value, slope in zip(constants.values(), slopes, strict=True):
                if slope is not None:
                    terms = (value.detach() * slope).double()
                    total += float(terms.sum())
                    size += float(terms.abs().sum())
        return total, size

    @property
    def _n_parts(self) -> int:
        """Number of forward passes: one, or one per plane for 2D networks."""
        if not self.layout.per_plane:
            return 1
        return int(self.region[0].stop - self.region[0].start)

    def _block(self, x: torch.Tensor) -> torch.Tensor:
        """From the voxels `x`, assemble the block that the reader would return."""
        import torch

        for axis, local in enumerate(self._local):
            if len(local) != x.shape[axis] or (np.diff(local) != 1).any():
                index = torch.from_numpy(np.ascontiguousarray(local)).to(x.device)
                x = x.index_select(axis, index)
        return x

    def _part(
        self,
        block: torch.Tensor,
        i: int,
        forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return the standardised region, or its plane `i`, as ``(Z, Y, X)``."""
        self._raise_if_stopped()
        forward = self.scene.network if forward is None else forward
        rows = [
            slice(part.start - w.start * s, part.stop - w.start * s)
            for part, w, s in zip(
                self.region, self._tile.window, self.layout.scale, strict=True
            )
        ]
        with compute.interruptible(self.scene.network, self._raise_if_stopped):
            if not self.layout.per_plane:
                y = forward(block[None, None])
                return y[0, 0][tuple(rows)]
            n_channels = 2 * self.layout.context + 1
            y = forward(block[i : i + n_channels][None])
            return y[0, :1][(slice(None), *rows[1:])]

    def _raise_if_stopped(self) -> None:
        if self.scene.should_stop():
            raise Cancelled("Stopped.")

    def _like(self, network_input: AnyArray) -> AnyArray:
        return np.ascontiguousarray(network_input, self.network_input.dtype)


@contextmanager
def _errors_translated(window: Window) -> Iterator[None]:
    """Convert errors of a network to messages for the user."""
    try:
        yield
    except GeoSRError:
        raise
    except Exception as error:
        shape = window.network_input.shape
        name = type(window.scene.network).__name__
        if is_out_of_memory(error):
            raise DeviceMemoryError(
                f"There is not enough memory for the window of {shape} voxels that "
                f"{name} needs. "
                "Explain fewer voxels at once, close other programs or use another "
                "device."
            ) from error
        raise EngineError(
            f"The network {name} failed on a window of {shape} voxels: {error}"
        ) from error


def _is_constant(name: str) -> bool:
    """Whether a parameter, judging by its name, is added rather than multiplied."""
    parts = name.split(".")
    return any("bias" in part for part in parts[-2:]) or parts[-1] == "running_mean"


def _tile_for(layout: Layout, region: Box) -> Tile:
    """Return a single tile with the input voxels of a region of the result."""
    cores, windows = [], []
    for axis, (part, s) in enumerate(zip(region, layout.scale, strict=True)):
        start, stop = part.start // s, -(-part.stop // s)
        if not 0 <= start < stop <= layout.shape[axis]:
            raise VolumeError(
                f"The region {tuple((p.start, p.stop) for p in region)} is not "
                "inside the result."
            )
        cores.append(slice(start, stop))
        aligned = start // layout.stride[axis] * layout.stride[axis]
        windows.append(window_along(layout, axis, aligned, stop))
    return Tile(
        core=(cores[0], cores[1], cores[2]),
        window=(windows[0], windows[1], windows[2]),
    )


def _first_places(index: AnyArray, start: int) -> AnyArray:
    """Return the position of the first occurrence of each scan index in `index`."""
    order = np.argsort(index, kind="stable")
    values, first = np.unique(index[order], return_index=True)
    assert values[0] == start
    assert len(values) == values[-1] - values[0] + 1
    places: AnyArray = order[first]
    return places
