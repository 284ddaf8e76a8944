"""Run a forward pass with exact settings, and convert its errors to readable ones."""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import (
    DeviceMemoryError,
    EngineError,
    GeoSRError,
    ModelError,
)
from napari_geosr.core.machine.allocation import is_in_allocation, within_allocation
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.core.types import AnyArray
from napari_geosr.inference.memory import (
    BlockTooLargeError,
    network_spec,
    probe_window,
)
from napari_geosr.inference.tiles.tiling import Layout, Tile

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Parameter of glibc's ``mallopt``: free memory to keep at the top of the heap.
_M_TRIM_THRESHOLD = -1
#: Parameter of glibc's ``mallopt``: minimum size of blocks that are mapped separately.
_M_MMAP_THRESHOLD = -3
#: Budget in bytes below which `frugal_allocator` is used: by default, the C library
#: keeps up to about 100 MB in reserve.
_FRUGAL_BELOW_BYTES = 1 << 30
_frugal_lock = threading.Lock()
_frugal_runs: list[str] = []
_precision_lock = threading.Lock()
_in_full_precision: list[None] = []
_flags_before: list[tuple[Any, str, Any]] = []


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    try:
        n = len(os.sched_getaffinity(0))
    except AttributeError:  # not available on this system
        n = os.cpu_count() or 1
    return within_allocation(n)


def default_threads() -> int:
    """Return the default number of CPU threads of a run.

    Outside cluster jobs, one core is left free, so that the desktop remains responsive.
    """
    n = usable_cores()
    return n if is_in_allocation() else max(1, n - 1)


def threads_used(threads: int | None) -> int:
    """Return the number of CPU threads for a setting, at most the number of cores."""
    return min(threads or default_threads(), usable_cores())


def check_ready(network: nn.Module) -> None:
    """Raise `ModelError` unless the network is in evaluation mode."""
    if network.training:
        raise ModelError(
            f"The network {type(network).__name__} is in training mode, where results "
            "depend on the tile. Call network.eval() first."
        )


def network_dtype(network: nn.Module) -> str:
    """Return ``"float64"`` for a network in double precision, else ``"float32"``."""
    import torch

    first = next(network.parameters(), None)
    return (
        "float64" if first is not None and first.dtype == torch.float64 else "float32"
    )


@contextmanager
def exact_settings(threads: int | None, *, gradients: bool = False) -> Iterator[None]:
    """Use inference mode, full precision and `threads` threads within the context.

    Use this context for a single forward pass only: a generator must not be suspended
    inside it.

    Parameters
    ----------
    gradients : bool
        Whether the forward pass is to be differentiated; disables inference mode.
    """
    import torch

    before = torch.get_num_threads()
    n_threads = threads_used(threads)
    try:
        if n_threads != before:
            torch.set_num_threads(n_threads)
        mode = torch.enable_grad() if gradients else torch.inference_mode()
        with _full_precision(), mode:
            yield
    finally:
        if n_threads != before:
            torch.set_num_threads(before)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Turn TF32 off while any thread is inside this context.

    The flags apply to the whole process. The first thread to enter sets them and the
    last one to leave resets them; otherwise, a preview that ends during a run would
    reset them too early.
    """
    with _precision_lock:
        if not _in_full_precision:
            for owner, name, value in _tf32_flags():
                _flags_before.append((owner, name, getattr(owner, name)))
                setattr(owner, name, value)
        _in_full_precision.append(None)
    try:
        yield
    finally:
        with _precision_lock:
            _in_full_precision.pop()
            while not _in_full_precision and _flags_before:
                setattr(*_flags_before.pop())


def _tf32_flags() -> list[tuple[Any, str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    backends: Any = torch.backends
    if hasattr(backends.cudnn, "conv"):  # since torch 2.9
        return [
            (backends.cudnn.conv, "fp32_precision", "ieee"),
            (backends.cuda.matmul, "fp32_precision", "ieee"),
        ]
    return [
        (backends.cudnn, "allow_tf32", False),
        (backends.cuda.matmul, "allow_tf32", False),
    ]


_thread_state = threading.local()
_INTERRUPTIBLE: weakref.WeakSet[Any] = weakref.WeakSet()


def interrupt(*_: Any) -> None:
    """Call `raise_if_stopped` of the enclosing `interruptible`, if any; may raise."""
    raise_if_stopped = getattr(_thread_state, "raise_if_stopped", None)
    if raise_if_stopped is not None:
        raise_if_stopped()


@contextmanager
def interruptible(
    network: nn.Module, raise_if_stopped: Callable[[], None]
) -> Iterator[None]:
    """Call `raise_if_stopped` (which may raise) before each layer of a forward pass.

    Networks that compute many layers in a single custom operation receive the callback
    as an attribute ``between_strips``. All callbacks stay on the network and do nothing
    outside this context, because adding and removing them while another thread runs the
    same network would not be safe.
    """
    if network not in _INTERRUPTIBLE:
        for module in network.modules():
            if not any(True for _ in module.children()):
                module.register_forward_pre_hook(interrupt)
            if hasattr(module, "between_strips"):
                setattr(module, "between_strips", interrupt)  # noqa: B010
        _INTERRUPTIBLE.add(network)
    _thread_state.raise_if_stopped = raise_if_stopped
    try:
        yield
    finally:
        _thread_state.raise_if_stopped = None


def restore_window(
    network: nn.Module,
    block: AnyArray,
    tile: Tile,
    layout: Layout,
    device: str,
    threads: int | None,
    raise_if_stopped: Callable[[], None] = lambda: None,
    forward: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> AnyArray:
    """Restore the core of one window.

    Parameters
    ----------
    block : ndarray of shape (Z, Y, X)
        The window, standardised, with ``2 · Layout.context`` additional planes.
    raise_if_stopped : callable
        Called before each plane and each layer; may raise.
    forward : callable, optional
        Called instead of the network (`napari_geosr.inference.backends`).

    Returns
    -------
    ndarray
        The core, in output voxels, still standardised; with a leading axis for mean and
        standard deviation if the network predicts both.

    Raises
    ------
    BlockTooLargeError
        If memory is insufficient.
    EngineError
        If the network fails in another way.
    """
    import torch

    crop = tile.crop(layout)
    shape = tuple(part.stop - part.start for part in crop)
    n_outputs = network_spec(network).n_outputs
    forward = network if forward is None else forward
    try:
        with exact_settings(threads), interruptible(network, raise_if_stopped):
            whole = torch.from_numpy(block)
            out = torch.empty((n_outputs, *shape), dtype=whole.dtype)
            if not layout.per_plane:
                x = whole[None, None].to(device)
                out.copy_(_core(network, x, layout, forward, crop))
            else:
                n_channels = 2 * layout.context + 1
                for i in range(shape[0]):
                    raise_if_stopped()
                    x = whole[i : i + n_channels][None].to(device)
                    out[:, i].copy_(_core(network, x, layout, forward, crop[1:]))
            values: AnyArray = out.numpy()
            return values if n_outputs > 1 else values[0]
    except Exception as error:
        raise _convert_error(error, network, tile.window_shape) from error


def _convert_error(error: Exception, network: nn.Module, window: Any) -> Exception:
    """Convert an error raised inside a network to an error of this package."""
    if isinstance(error, GeoSRError):
        return error
    if is_out_of_memory(error):
        return BlockTooLargeError()
    return EngineError(
        f"The network {type(network).__name__} failed on a window of "
        f"{tuple(window)} voxels: {error}"
    )


def _core(
    network: nn.Module,
    x: torch.Tensor,
    layout: Layout,
    forward: Callable[[torch.Tensor], torch.Tensor],
    crop: tuple[slice, ...],
) -> torch.Tensor:
    """Return the part of the output to keep; some networks compute only this part."""
    restore_core = getattr(forward, "restore_core", None)
    if restore_core is not None:
        core: torch.Tensor = restore_core(x, crop)
        return core[0]
    return _forward(network, x, layout, forward)[0][(slice(None), *crop)]


def _forward(
    network: nn.Module,
    x: torch.Tensor,
    layout: Layout,
    forward: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    y: torch.Tensor = forward(x)
    n = x.ndim - 2
    scale = layout.scale[3 - n :]
    size = (m * s for m, s in zip(x.shape[2:], scale, strict=True))
    expected = (1, network_spec(network).n_outputs, *size)
    if tuple(y.shape) != expected:
        raise ModelError(
            f"The network {type(network).__name__} returned an output of shape "
            f"{tuple(y.shape)}, but its spec declares {expected}."
        )
    return y


def release_memory(device: str) -> None:
    """Release memory held in reserve by torch and the C library."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
    elif sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)


@contextmanager
def frugal_allocator(device: str) -> Iterator[None]:
    """Make the C library free large blocks at once, to stay within the memory budget.

    By default, glibc keeps freed blocks of up to 32 MB for reuse, so a process can grow
    to twice the memory that it needs. On exit, the thresholds are set to the final
    values of glibc's own dynamic adjustment (the current values cannot be queried).
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" and device == "cpu" else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    with _frugal_lock:
        _frugal_runs.append(device)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 20)
    try:
        yield
    finally:
        with _frugal_lock:
            _frugal_runs.pop()
            if not _frugal_runs:  # another run may still need it
                libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
                libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        release_memory(device)


def frugal_if_tight(device: str, budget: int) -> AbstractContextManager[None]:
    """Return `frugal_allocator` for a small budget, else a context without effect."""
    return frugal_allocator(device) if budget < _FRUGAL_BELOW_BYTES else nullcontext()


_SPEEDS: weakref.WeakKeyDictionary[Any, dict[tuple[str, int], float]] = (
    weakref.WeakKeyDictionary()
)


class WorkTimer:
    """Measures the time that a network takes, excluding that of other programs.

    On the CPU, it counts the CPU time of the calling thread, which computes its
    share of every layer; on other devices, the elapsed time.

    Parameters
    ----------
    device : str
    """

    def __init__(self, device: str) -> None:
        self._uses_processor = device == "cpu"
        self._began, self._processor = time.perf_counter(), time.thread_time()

    def seconds(self) -> float:
        """Return the time since the timer was created."""
        elapsed = time.perf_counter() - self._began
        if not self._uses_processor:
            return elapsed
        # On some systems, this clock advances only every few milliseconds.
        return min(elapsed, time.thread_time() - self._processor) or elapsed


def known_speed(network: nn.Module, device: str, threads: int | None) -> float | None:
    """Return the time per input voxel if it has already been measured.

    Parameters
    ----------
    network : nn.Module
    device : str
    threads : int or None
        CPU threads; all cores but one by default.

    Returns
    -------
    float or None
        Seconds per voxel.
    """
    known = _SPEEDS.get(network, {})
    return known.get((device, threads or default_threads()))


def seconds_per_voxel(
    network: nn.Module, device: str, threads: int | None, max_voxels: int = 1 << 40
) -> float:
    """Measure the time per input voxel on small windows, excluding other programs.

    The result is cached per network, device and number of threads. Windows grow until
    one takes a tenth of a second, so that call overhead and caches do not distort the
    result, or until they would exceed `max_voxels`; a speed measured with such a
    limited window is not cached. The first call is a warm-up and does not count.

    Parameters
    ----------
    network : nn.Module
        Network that is already on `device`.
    device : str
    threads : int or None
        CPU threads; all cores but one by default.
    max_voxels : int
        Number of voxels of the largest window that is timed.

    Returns
    -------
    float
        Seconds per voxel of the input.
    """
    import torch

    key = (device, threads or default_threads())
    known = _SPEEDS.setdefault(network, {})
    if key in known:
        return known[key]
    spec = network_spec(network)
    dtype = torch.float64 if network_dtype(network) == "float64" else torch.float32
    length = 48 if len(spec.axes) == 2 else 12
    speed, voxels_before, is_limited = 0.0, 0, False
    for attempt in range(6):
        window = probe_window(spec, length)
        voxels = math.prod(window)
        is_limited = attempt > 1 and voxels > max_voxels
        if is_limited or (attempt > 1 and voxels == voxels_before):
            break
        x = torch.zeros((1, spec.adjacent_slices, *window), dtype=dtype, device=device)
        try:
            elapsed = _timed_forward(network, x, threads)
        except BlockTooLargeError:
            if not speed:
                raise DeviceMemoryError(
                    f"{device} has too little memory even for a window of {window} "
                    "voxels. Close other programs or use another device."
                ) from None
            break
        speed, voxels_before = elapsed / voxels, voxels
        if attempt and elapsed > 0.1:
            break
        length = int(length * (1.7 if attempt else 1.0))
    if not is_limited:
        known[key] = speed
    return speed


def _timed_forward(network: nn.Module, x: torch.Tensor, threads: int | None) -> float:
    try:
        with exact_settings(threads):
            scale = network_spec(network).upscale_factor
            whole = tuple(
                slice(0, n * s) for n, s in zip(x.shape[2:], scale, strict=True)
            )
            restore_core = getattr(network, "restore_core", None)
            timer = WorkTimer(x.device.type)
            y = network(x) if restore_core is None else restore_core(x, whole)
            y.ravel()[:1].cpu()  # waits for the device
            return timer.seconds()
    except Exception as error:
        raise _convert_error(error, network, x.shape[2:]) from error


def learn_speed(
    network: nn.Module, device: str, threads: int | None, speed: float
) -> None:
    """Store the speed measured on a tile of a run.

    Parameters
    ----------
    network : nn.Module
    device : str
    threads : int or None
        CPU threads; all cores but one by default.
    speed : float
        Seconds per voxel of the input, as in `seconds_per_voxel`.
    """
    _SPEEDS.setdefault(network, {})[(device, threads or default_threads())] = speed
