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
from napari_geosr.physics.specimens import samples

LayerData = tuple[Any, AnyDict, str]
_Pair = tuple[Volume, Volume]
_Result = TypeVar("_Result")
#: Milliseconds between checks of whether a sample is ready.
_POLL_MS = 10
#: Number of projections of the sample `few_projections`.
_N_PROJECTIONS = 40
#: Edge length of the slices of `few_projections`, in voxels.
_SLICE_EDGE = 128
#: Number of slices of `few_projections`.
_N_SLICES = 32


def noisy_foam() -> list[LayerData]:
    """Return a noisy scan of a simulated foam, and the foam without noise."""
    noisy, clean = _run_in_thread(_noisy_foam)
    return [_layer(clean, visible=False), _layer(noisy)]


def resolution_pair() -> list[LayerData]:
    """Return the same simulated foam at low and at high resolution."""
    low, high = _run_in_thread(_resolution_pair)
    return [_layer(high, visible=False), _layer(low)]


def few_projections() -> list[LayerData]:
    """Return a CT scan of a simulated foam with few projections, and its ground truth.

    The Reconstruct dock reads projections from files; the file of this sample is in the
    user's cache.
    """
    from napari_geosr.gui.readers import read_layers

    projections, truth = _run_in_thread(_few_projections)
    (data, attributes, kind), *_ = read_layers(str(truth))
    hidden = (data, attributes | {"name": "foam, ground truth", "visible": False}, kind)
    return [hidden, *read_layers(str(projections))]


def _few_projections() -> tuple[Path, Path]:
    from platformdirs import user_cache_path

    from napari_geosr.core.version import __version__
    from napari_geosr.operations.simulate import FILES, SimulateConfig, simulate_steps

    folder = Path(user_cache_path("napari-geosr")) / "samples" / __version__
    scan = folder / f"foam_{_N_PROJECTIONS}_projections.h5"
    truth = folder / f"foam_{_N_PROJECTIONS}_projections_truth.ome.tif"
    if scan.exists() and truth.exists():
        return scan, truth
    config = SimulateConfig.create(
        projections=_N_PROJECTIONS, size=_SLICE_EDGE, rows=_N_SLICES, photons=2e4
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            run_to_end(simulate_steps("foam", temporary, config))
            # Move the scan last: if it exists, both files are complete.
            os.replace(Path(temporary) / FILES["truth"], truth)
            os.replace(Path(temporary) / FILES["projections"], scan)
    except OSError as error:
        raise FileError(
            f"The sample cannot be written to {folder}: {error.strerror}. Free some "
            "disk space there, or make the folder writable."
        ) from error
    return scan, truth


def _noisy_foam() -> _Pair:
    return samples.noisy_foam()


def _resolution_pair() -> _Pair:
    return samples.resolution_pair()


def _run_in_thread(make: Callable[[], _Result]) -> _Result:
    """Simulate a sample in a thread, and keep redrawing the window meanwhile.

    napari needs the layers when the function returns. User input is handled afterwards.
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
