"""Sample data for *File ▸ Open Sample ▸ GeoSR*."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from qtpy.QtCore import QCoreApplication, QEventLoop, QTimer

from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.physics import samples

LayerData = tuple[Any, AnyDict, str]
_Pair = tuple[Volume, Volume]
_Made = TypeVar("_Made")
#: Milliseconds between two looks whether a sample is ready.
_POLL_MS = 10
#: Projections of the scan that has few of them; edge of its slices; its slices.
_FEW, _FEW_SIZE, _FEW_ROWS = 40, 128, 32


def noisy_foam() -> list[LayerData]:
    """Give a noisy scan of a simulated foam and the clean volume behind it."""
    noisy, clean = _made(_noisy_foam)
    return [_layer(clean, visible=False), _layer(noisy)]


def resolution_pair() -> list[LayerData]:
    """Give the same simulated foam at low and at high resolution."""
    low, high = _made(_resolution_pair)
    return [_layer(high, visible=False), _layer(low)]


def few_projections() -> list[LayerData]:
    """Give the CT scan of a simulated foam with few projections, and its true volume.

    The Reconstruct dock reads projections from a file: it is kept in the user's cache.
    """
    from napari_geosr.gui.readers import read_layers

    projections, truth = _made(_few_projections)
    (data, attributes, kind), *_ = read_layers(str(truth))
    hidden = (data, attributes | {"name": "true foam", "visible": False}, kind)
    return [hidden, *read_layers(str(projections))]


def _few_projections() -> tuple[Path, Path]:
    from platformdirs import user_cache_path

    from napari_geosr.core.version import __version__
    from napari_geosr.operations.simulate import FILES, SimulateConfig, simulate_steps

    folder = Path(user_cache_path("napari-geosr")) / "samples" / __version__
    scan = folder / f"foam_{_FEW}_projections.h5"
    truth = folder / f"foam_{_FEW}_projections_truth.ome.tif"
    if scan.exists() and truth.exists():
        return scan, truth
    config = SimulateConfig.create(
        projections=_FEW, size=_FEW_SIZE, rows=_FEW_ROWS, photons=2e4
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as made:
            run_to_end(simulate_steps("foam", made, config))
            # The scan last: where it is, both are whole.
            os.replace(Path(made) / FILES["truth"], truth)
            os.replace(Path(made) / FILES["projections"], scan)
    except OSError as error:
        raise FileError(
            f"The sample cannot be written to {folder}: {error.strerror}. Make room "
            "there, or make the folder writable."
        ) from error
    return scan, truth


def _noisy_foam() -> _Pair:
    return samples.noisy_foam()


def _resolution_pair() -> _Pair:
    return samples.resolution_pair()


def _made(make: Callable[[], _Made]) -> _Made:
    """Simulate in a thread while the window goes on drawing itself.

    napari wants the layers when the function returns. What a person clicks meanwhile
    waits until then.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if QCoreApplication.instance() is None or not is_main:
        return make()
    loop, timer = QEventLoop(), QTimer()
    with ThreadPoolExecutor(1, "geosr-sample") as pool:
        future = pool.submit(make)
        timer.timeout.connect(lambda: loop.quit() if future.done() else None)
        timer.start(_POLL_MS)
        loop.exec(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)
        timer.stop()
    return future.result()


def _layer(volume: Volume, **options: Any) -> LayerData:
    data = volume.data[:]
    limits = (float(data.min()), float(data.max()))
    _, attributes, kind = volume.to_layer_data()
    return data, attributes | {"contrast_limits": limits, **options}, kind
