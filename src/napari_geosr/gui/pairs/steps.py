"""Build the files of a pair, and the layers that show it, without Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr import io
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.volume import Volume
from napari_geosr.operations.pairs import pairs_steps
from napari_geosr.operations.pairs.config import DegradeConfig, PairsConfig
from napari_geosr.operations.pairs.degraded import degrade_steps
from napari_geosr.operations.pairs.inputs import open_high

if TYPE_CHECKING:
    from napari_geosr.operations.pairs import Pairs

#: Percentiles of the grey values used as contrast limits.
_CONTRAST = (0.5, 99.5)


@dataclass(frozen=True, eq=False)
class PairRequest:
    """A pair to be built.

    Attributes
    ----------
    high : Path or Volume
        The high-resolution scan.
    low : Path or Volume or None
        The low-resolution scan to align with; None to simulate one.
    like : Path or Volume or None
        A real scan that the simulated one should resemble.
    config : PairsConfig or DegradeConfig
    folder : Path
        Folder for the files.
    """

    high: Path | Volume
    low: Path | Volume | None
    like: Path | Volume | None
    config: PairsConfig | DegradeConfig
    folder: Path


@dataclass(frozen=True, eq=False)
class PairLayer:
    """A volume to show as a layer, with its contrast limits."""

    volume: Volume
    limits: tuple[float, float]


@dataclass(frozen=True, eq=False)
class BuiltPair:
    """A pair and its layers by key: ``low``, ``before``, ``high``."""

    pairs: Pairs
    layers: dict[str, PairLayer]


def build_steps(
    request: PairRequest, should_stop: ShouldStop
) -> Generator[Step, None, BuiltPair]:
    """Build the pair.

    Returns
    -------
    BuiltPair

    Raises
    ------
    GeoSRError
        If the pair cannot be built; the files are removed.
    """
    yield StageStarted(message="Opening the scans")
    high, config = _open_if_path(request.high), request.config
    if isinstance(config, PairsConfig):
        assert request.low is not None
        steps = pairs_steps(
            _open_if_path(request.low),
            high,
            request.folder,
            config,
            should_stop=should_stop,
        )
    else:
        steps = degrade_steps(
            high,
            request.folder,
            config,
            like=None if request.like is None else _open_if_path(request.like),
            should_stop=should_stop,
        )
    done = yield from steps
    layers = {key: _with_contrast(io.read(done.files[key])) for key in ("low", "high")}
    if isinstance(config, PairsConfig) and "before" in done.layers:
        limits = layers["high"].limits
        layers["before"] = PairLayer(done.layers["before"], limits)
        if config.intensity != "none":
            # Grey values were matched, so both layers need the same contrast.
            layers["low"] = PairLayer(layers["low"].volume, limits)
    return BuiltPair(done, layers)


def _open_if_path(part: Path | Volume) -> Volume:
    return open_high(part) if isinstance(part, Path) else part


def _with_contrast(volume: Volume) -> PairLayer:
    middle = volume.data if volume.axes == "YX" else volume.data[volume.shape[0] // 2]
    values = np.asarray(middle[:], np.float32)
    low, high = (float(v) for v in np.percentile(values, _CONTRAST))
    return PairLayer(volume, (low, high) if low < high else (low, low + 1))


def free_folder(parent: Path, name: str) -> Path:
    """Return ``parent/name``, numbered if that folder exists."""
    path, number = parent / name, 1
    while path.exists():
        number += 1
        path = parent / f"{name}-{number}"
    return path
