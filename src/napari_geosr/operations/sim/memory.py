"""Memory that reconstructions need, and tiles that fit into memory."""

from __future__ import annotations

import itertools
import math

import numpy as np

from napari_geosr.core.config import format_available, format_enough, parse_bytes
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.inference.device import free_memory
from napari_geosr.operations.sim.config import FramesConfig, SimConfig
from napari_geosr.physics.illumination import SimGrid
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.patterns import MIN_TWO_ORDERS

#: Number of arrays of the result's size that joint Richardson–Lucy needs, in addition
#: to the terms of the patterns.
_FINE_ARRAYS = 10
#: Number of arrays of the size of all frames that joint Richardson–Lucy needs: the
#: frames themselves, the expected ones, their ratio and copies.
_FRAME_ARRAYS = 4
#: Number of images of the camera's size that joint Richardson–Lucy needs for each term
#: of the patterns.
_TERM_IMAGES = 2
#: Bytes for a network's feature maps, per feature and per pixel of the result.
_NETWORK_MAPS = 110
#: Bytes that Wiener-SIM needs per pixel of the result, per pixel of the camera, and for
#: each band of an angle per pixel of the camera.
_WIENER_BYTES = 60
_WIENER_CAMERA_BYTES = 52
_WIENER_BAND_BYTES = 12
#: Rows by which a grid exceeds its frames (see `SimGrid.around`), and by which its size
#: may be rounded up, in periods of the cut-off frequency.
_GRID_MARGIN = 2 * 4.0 + 1.6
#: Margin around a tile, in periods of the cut-off frequency.
_HALO = 12.0
#: Fraction of the free memory that a run uses by default.
FREE_SHARE = 0.5


def memory_budget(config: SimConfig, device: str = "cpu") -> int:
    """Return the memory budget: the setting, or a fraction of the device's memory."""
    if config.memory is not None:
        return parse_bytes(config.memory)
    return int(FREE_SHARE * free_memory(device))


def pixel_bytes(n_frames: int, n_terms: int, upscale_factor: int) -> int:
    """Return the bytes that joint Richardson–Lucy needs per camera pixel."""
    fine = upscale_factor**2 * (n_terms + _FINE_ARRAYS)
    return 4 * (fine + _FRAME_ARRAYS * n_frames + _TERM_IMAGES * n_terms)


def n_terms(patterns: PatternSet) -> int:
    """Return the number of images of which all patterns are linear combinations."""
    if patterns.images is not None:
        return patterns.n_frames
    return 1 + sum(2 * fringe.harmonics for fringe in patterns.fringes)


def most_harmonics(config: FramesConfig, phases: int) -> int:
    """Return the number of harmonics, or the highest that can be chosen by default."""
    return config.harmonics or (2 if phases >= MIN_TWO_ORDERS else 1)


def require_network_memory(
    shape: tuple[int, int],
    n_frames: int,
    terms: int,
    otf: Otf,
    config: SimConfig,
    device: str,
) -> int:
    """Refuse a network that does not fit into memory; it cannot work in tiles.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of a frame.
    n_frames : int
        Frames of each plane.
    terms : int
        Return value of `n_terms`.
    otf : Otf
    config : SimConfig
    device : str

    Returns
    -------
    int
        Bytes that the network needs.

    Raises
    ------
    DeviceMemoryError
        If the network needs more than the budget.
    """
    s, (rows, columns) = config.upscale_factor, shape
    padded = math.prod(SimGrid.around(shape, s, otf.cut_off).padded)
    maps = s**2 * _NETWORK_MAPS * config.features
    need = padded * (maps + pixel_bytes(n_frames, terms, s))
    budget = memory_budget(config, device)
    if need > budget:
        raise DeviceMemoryError(
            f"The network needs {format_enough(need)} for frames of {rows} × {columns} "
            f"pixels, more than the {format_available(budget)} allowed. Crop them, "
            "allow more memory (--memory), use a smaller upscale factor "
            "(--upscale-factor) or fewer features (--features), or use 'sim --method "
            "joint-rl', which works in tiles.",
            enough=need,
        )
    return need


def wiener_bytes(grid: SimGrid, harmonics: int) -> int:
    """Return the bytes that Wiener-SIM needs for one plane."""
    camera = _WIENER_CAMERA_BYTES + _WIENER_BAND_BYTES * (1 + harmonics)
    return math.prod(grid.fine) * _WIENER_BYTES + math.prod(grid.padded) * camera


def require_wiener_memory(
    shape: tuple[int, int], harmonics: int, otf: Otf, config: SimConfig
) -> int:
    """Refuse Wiener-SIM if it does not fit into memory.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of a frame.
    harmonics : int
        Harmonics of the patterns.
    otf : Otf
    config : SimConfig

    Returns
    -------
    int
        Bytes that Wiener-SIM needs.

    Raises
    ------
    DeviceMemoryError
        If Wiener-SIM needs more than the budget.
    """
    grid = SimGrid.around(shape, config.upscale_factor, otf.cut_off)
    need, budget = wiener_bytes(grid, harmonics), memory_budget(config)
    if need > budget:
        rows, columns = shape
        raise DeviceMemoryError(
            f"Wiener-SIM needs {format_enough(need)} for frames of {rows} × {columns} "
            f"pixels, more than the {format_available(budget)} allowed. Allow more "
            "(--memory), crop the frames, use a smaller upscale factor "
            "(--upscale-factor), or use --method joint-rl, which works in tiles.",
            enough=need,
        )
    return need


def require_memory(
    shape: tuple[int, int], angles: int, phases: int, otf: Otf, config: SimConfig
) -> int:
    """Refuse a reconstruction on the CPU, before its patterns are known.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of a frame.
    angles, phases : int
    otf : Otf
    config : SimConfig

    Returns
    -------
    int
        Bytes that the method uses for a plane; 0 for widefield.

    Raises
    ------
    DeviceMemoryError
        If the method, or a tile, needs more than the budget.
    """
    harmonics = most_harmonics(config, phases)
    n_frames, terms = angles * phases, 1 + 2 * harmonics * angles
    if config.method == "widefield":
        return 0
    if config.method == "wiener":
        return require_wiener_memory(shape, harmonics, otf, config)
    if config.method == "pinn":
        return require_network_memory(shape, n_frames, terms, otf, config, "cpu")
    tiles_for(shape, n_frames, terms, otf, config, "cpu")
    whole = math.prod(n + grid_margin(otf) for n in shape)
    need = whole * pixel_bytes(n_frames, terms, config.upscale_factor)
    return min(need, memory_budget(config))


def grid_margin(otf: Otf) -> int:
    """Return the rows by which a grid exceeds its frames, including rounding."""
    return math.ceil(_GRID_MARGIN / otf.cut_off)


def tiles_for(
    shape: tuple[int, int],
    n_frames: int,
    terms: int,
    otf: Otf,
    config: SimConfig,
    device: str,
) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Return the tiles of joint Richardson–Lucy; see `plan_tiles`.

    The parameters are those of `require_network_memory`.

    Raises
    ------
    DeviceMemoryError
        If not even a small tile fits into the budget.
    """
    return plan_tiles(
        shape,
        pixel_bytes=pixel_bytes(n_frames, terms, config.upscale_factor),
        budget=memory_budget(config, device),
        halo=math.ceil(_HALO / otf.cut_off),
        margin=grid_margin(otf),
    )


def plan_tiles(
    shape: tuple[int, int], *, pixel_bytes: int, budget: int, halo: int, margin: int
) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Divide a plane into tiles with halos, in camera pixels.

    Parameters
    ----------
    shape : (int, int)
    pixel_bytes : int
        Memory for each camera pixel, in bytes.
    budget : int
        Bytes that a tile and its halo may use.
    halo : int
        Pixels around a tile.
    margin : int
        Rows and columns by which the grid of a tile exceeds its frames.

    Returns
    -------
    list of ((slice, slice), (slice, slice))
        Each tile, and the part of the frames that it needs; a single tile if everything
        fits.

    Raises
    ------
    DeviceMemoryError
        If not even a small tile fits into the budget.
    """
    counts = [1, 1]
    while True:
        edges = [math.ceil(n / c) for n, c in zip(shape, counts, strict=True)]
        windows = [
            min(e + 2 * halo, n) if c > 1 else n
            for e, n, c in zip(edges, shape, counts, strict=True)
        ]
        need = math.prod(w + margin for w in windows) * pixel_bytes
        if need <= budget:
            break
        longest = int(np.argmax(edges))
        if edges[longest] <= halo:
            raise DeviceMemoryError(
                f"A tile of this reconstruction needs {format_enough(need)}, more than "
                f"the {format_available(budget)} allowed. Allow more (--memory), or "
                "use a smaller upscale factor (--upscale-factor).",
                enough=need,
            )
        counts[longest] += 1
    starts = [range(0, n, e) for n, e in zip(shape, edges, strict=True)]
    found = []
    for start in itertools.product(*starts):
        core, window = [], []
        for at, edge, n in zip(start, edges, shape, strict=True):
            core.append(slice(at, min(at + edge, n)))
            window.append(slice(max(0, at - halo), min(at + edge + halo, n)))
        found.append(((core[0], core[1]), (window[0], window[1])))
    return found
