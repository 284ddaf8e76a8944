"""Sample data for *File ▸ Open Sample ▸ GeoSR*."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from qtpy.QtCore import QCoreApplication, QEventLoop, QTimer

from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.physics import samples

LayerData = tuple[Any, AnyDict, str]
_Pair = tuple[Volume, Volume]
#: Milliseconds between two looks whether a sample is ready.
_POLL_MS = 10


def noisy_foam() -> list[LayerData]:
    """Give a noisy scan of a simulated foam and the clean volume behind it."""
    noisy, clean = _made(_noisy_foam)
    return [_layer(clean, visible=False), _layer(noisy)]


def resolution_pair() -> list[LayerData]:
    """Give the same simulated foam at low and at high resolution."""
    low, high = _made(_resolution_pair)
    return [_layer(high, visible=False), _layer(low)]


def _noisy_foam() -> _Pair:
    return samples.noisy_foam()


def _resolution_pair() -> _Pair:
    return samples.resolution_pair()


def _made(make: Callable[[], _Pair]) -> _Pair:
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
