"""Run a diffusion network on a large image in windows, with the result of a single run.

Two things of an image that is cut into windows depend on the rest of the image. The
convolutions see a limited surrounding, so every window is enlarged by it. The group
norms use the mean and the variance of the whole image; these are computed first, one
norm after the other, with all windows. All this takes several times as long, and is
therefore done only if the image does not fit into memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from napari_geosr.networks.layers.shared_norm import GroupStatistics, SharedGroupNorm

#: Duration of computing the statistics of one group norm, relative to one pass of the
#: network, on average (measured with the default networks in 2D and 3D).
_PER_NORM = 0.44
#: Slices of a window along all axes of a tensor, including sample and channel.
Place = tuple[slice, ...]


@dataclass(frozen=True)
class ImageWindow:
    """A part of an image, with the surrounding that the network needs for it.

    Attributes
    ----------
    core : tuple of slice
        The part along Y and X, or Z, Y and X.
    around : tuple of slice
        The part with its surrounding.
    """

    core: tuple[slice, ...]
    around: tuple[slice, ...]

    def inner(self, maps: Tensor, grid: int) -> Tensor:
        """Return the core of maps computed from this window, of any resolution.

        Parameters
        ----------
        maps : Tensor of shape (N, C, [Z,] Y, X)
        grid : int
            Voxels per voxel of the coarsest maps; windows begin at its multiples.
        """
        pairs = zip(self.core, self.around, strict=True)
        for axis, (core, around) in enumerate(pairs):
            padded = -(-(around.stop - around.start) // grid) * grid
            ratio = padded // maps.shape[axis + 2]
            start = (core.start - around.start) // ratio
            # Padding at the end of the image belongs to the last core.
            stop = maps.shape[axis + 2]
            if core.stop < around.stop:
                stop = (core.stop - around.start) // ratio
            maps = maps.narrow(axis + 2, start, stop - start)
        return maps


def output_in_windows(
    network: nn.Module,
    run: Callable[[Place], Tensor],
    shape: Sequence[int],
    at_once: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return the output of a network for an image, computed in windows if necessary.

    Parameters
    ----------
    network : Module
        Network with the attributes ``reach`` (voxels around a window on which its
        output depends) and ``grid`` (windows must begin at multiples of it).
    run : callable
        Runs the network on a window, given as slices of a tensor (N, C, [Z,] Y, X), and
        returns an output of the window's size.
    shape : sequence of int
        Size of the image along Y and X, or Z, Y and X.
    at_once : int, optional
        Maximum number of voxels that are processed together; without, the whole image.
    check : callable
        Called before each window; may raise.

    Returns
    -------
    Tensor of shape (N, C, [Z,] Y, X)
        Equal to that for the whole image, except for rounding.

    Notes
    -----
    Until the function returns, the network must not be used by anything else, because
    its norms have the statistics of this image.
    """
    whole = [slice(0, n) for n in shape]
    if at_once is None or math.prod(shape) <= at_once:
        return run(_place(whole))
    net: Any = network
    parts = list(windows(shape, at_once, net.reach, net.grid))
    norms = [one for one in net.modules() if isinstance(one, SharedGroupNorm)]
    hooks = [norm.register_forward_pre_hook(_stop_if_unknown) for norm in norms]
    try:
        while (reached := _reached(run, parts[0])) is not None:
            norm = reached.norm
            found = GroupStatistics(norm.num_groups)
            found.add(parts[0].inner(reached.maps, net.grid))
            del reached
            for part in parts[1:]:
                check()
                again = _reached(run, part)
                assert again is not None
                found.add(part.inner(again.maps, net.grid))
            norm.given = found.result()
        output = None
        for part in parts:
            check()
            made = run(_place(part.around))
            if output is None:
                output = made.new_empty((*made.shape[:2], *shape))
            output[_place(part.core)] = part.inner(made, 1)
    finally:
        for hook in hooks:
            hook.remove()
        for norm in norms:
            norm.given = None
    assert output is not None
    return output


def duration(network: nn.Module, shape: Sequence[int], at_once: int) -> float:
    """Return about how many times as long a run in windows takes as one without."""
    net: Any = network
    if math.prod(shape) <= at_once:
        return 1.0
    parts = windows(shape, at_once, net.reach, net.grid)
    sizes = (math.prod(s.stop - s.start for s in part.around) for part in parts)
    computed: int = sum(sizes)
    norms = sum(isinstance(one, SharedGroupNorm) for one in network.modules())
    return (1 + _PER_NORM * norms) * computed / math.prod(shape)


def fewest_voxels(network: nn.Module, shape: Sequence[int]) -> int:
    """Return the number of voxels of the smallest window, with its surroundings."""
    net: Any = network
    margin = _margin(net.reach, net.grid)
    return math.prod(min(n, max(margin, net.grid) + 2 * margin) for n in shape)


def _margin(reach: int, grid: int) -> int:
    """Return the surroundings of a window on each side, a multiple of the grid."""
    return -(-reach // grid) * grid


def windows(
    shape: Sequence[int], at_once: int, reach: int, grid: int
) -> Iterator[ImageWindow]:
    """Cut an image into windows of at most `at_once` voxels, with their surroundings.

    Windows have more voxels if they would otherwise consist mainly of surroundings: at
    least `fewest_voxels`.
    """
    margin = _margin(reach, grid)
    edges = list(shape)
    order = sorted(range(len(shape)), key=lambda axis: shape[axis])
    room = float(at_once)
    for i, axis in enumerate(order):  # the shortest axes are the last to be cut
        length = int(room ** (1 / (len(order) - i)))
        if length < shape[axis]:
            edges[axis] = max(length - 2 * margin, margin, grid) // grid * grid
        room /= min(edges[axis] + 2 * margin, shape[axis])
    axes = [
        [
            (
                slice(start, min(start + edge, n)),
                slice(max(0, start - margin), min(start + edge + margin, n)),
            )
            for start in range(0, n, edge)
        ]
        for n, edge in zip(shape, edges, strict=True)
    ]
    for pairs in itertools.product(*axes):
        core, around = zip(*pairs, strict=True)
        yield ImageWindow(core, around)


def _place(box: Sequence[slice]) -> Place:
    return (slice(None), slice(None), *box)


class _ReachedError(Exception):
    """A norm without statistics was reached; carries its input."""

    def __init__(self, norm: SharedGroupNorm, maps: Tensor) -> None:
        super().__init__()
        self.norm, self.maps = norm, maps


def _stop_if_unknown(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(norm, SharedGroupNorm)
    if norm.given is None:
        raise _ReachedError(norm, inputs[0])


def _reached(run: Callable[[Place], Tensor], part: ImageWindow) -> _ReachedError | None:
    """Run the network on a window up to the first norm without statistics."""
    try:
        run(_place(part.around))
    except _ReachedError as reached:
        return reached.with_traceback(None)
    return None
