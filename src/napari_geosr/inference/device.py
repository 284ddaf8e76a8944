"""Choose the compute device and report its name and free memory."""

from __future__ import annotations

import platform
from pathlib import Path

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.memory import free_host_memory


def pick_device(requested: str = "auto") -> str:
    """Return the name of the torch device to compute on.

    Parameters
    ----------
    requested : str
        ``"auto"`` (CUDA, then Apple's MPS, then the processor), ``"cpu"``, ``"cuda"``,
        ``"cuda:1"`` or ``"mps"``.

    Raises
    ------
    ConfigError
        If `requested` is unknown or not available on this machine.
    """
    if requested == "cpu":
        return requested
    import torch

    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if requested == "auto":
        return "cuda" if n_cuda else "mps" if has_mps else "cpu"
    kind, _, index = requested.partition(":")
    if requested == "mps" and has_mps:
        return requested
    if kind == "cuda" and (not index or index.isdecimal()):
        if int(index or 0) < n_cuda:
            return requested
        available = f"{n_cuda} of them" if n_cuda else "no usable CUDA device"
        raise ConfigError(
            f"Device {requested!r} is not available: this computer has {available}. "
            "Use auto or cpu."
        )
    if requested == "mps":
        raise ConfigError("Device 'mps' needs an Apple GPU. Use auto or cpu.")
    raise ConfigError(
        f"{requested!r} is not a device. Use auto, cpu, cuda, cuda:1 … or mps."
    )


def device_name(device: str) -> str:
    """Return a readable name, e.g. ``"NVIDIA H200"`` or the name of the processor."""
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    if device == "mps":
        return "Apple GPU"
    return _processor_name()


def free_memory(device: str = "cpu") -> int:
    """Return the bytes still available to a job on `device`.

    For the processor, see `napari_geosr.core.machine.memory.free_host_memory`.
    """
    if device == "cpu":
        return free_host_memory()
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        # Memory that torch's allocator keeps in reserve is also available.
        reserve = torch.cuda.memory_reserved(device)
        return int(free + reserve - torch.cuda.memory_allocated(device))
    if device == "mps":
        limit = torch.mps.recommended_max_memory()
        return max(0, int(limit - torch.mps.current_allocated_memory()))
    return free_host_memory()


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
