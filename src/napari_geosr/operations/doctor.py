"""Information about the installation and the computer, for troubleshooting."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from napari_geosr.core.config import format_bytes
from napari_geosr.core.machine.compiling import loop_cache
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.machine.torch_here import why_no_torch
from napari_geosr.core.types import AnyDict
from napari_geosr.inference.device import device_name, free_memory, pick_device
from napari_geosr.models import zoo

_PACKAGES = (
    "napari-geosr",
    "napari",
    "npe2",
    "torch",
    "openvino",
    "numpy",
    "tifffile",
    "imagecodecs",
    "zarr",
    "scikit-image",
    "numba",
    "connected-components-3d",
    "nibabel",
    "SimpleITK",
)
#: How to choose another cache folder, on systems that have a variable for it.
_ELSEWHERE = (
    ", or set the environment variable XDG_CACHE_HOME to another folder"
    if sys.platform.startswith("linux")
    else ""
)
_QT = ("PyQt6", "PySide6")


@dataclass(frozen=True)
class Diagnosis:
    """Findings by section, and advice if something is missing."""

    sections: dict[str, dict[str, str]]
    advice: tuple[str, ...]

    def to_json_dict(self) -> AnyDict:
        """Return all findings as JSON-serialisable values."""
        return {**self.sections, "advice": list(self.advice)}


def examine() -> Diagnosis:
    """Check versions, devices, memory, disk, Qt, display and models."""
    advice: list[str] = []
    sections = {
        "system": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "executable": sys.executable,
        },
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": _devices(advice),
        "memory": _memory(advice),
        "compiled loops": _loops(advice),
        "display": _display(advice),
        "models": _models(advice),
    }
    return Diagnosis(sections, tuple(advice))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _devices(advice: list[str]) -> dict[str, str]:
    rows = {"cpu cores": str(os.cpu_count())}
    if missing := why_no_torch():
        advice.append(
            f"Torch cannot be imported ({missing}), so this computer can submit most "
            "jobs, but cannot run or train models."
        )
        return rows
    import torch

    rows["torch threads"] = str(torch.get_num_threads())
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = f"cuda:{index}"
            rows[device] = (
                f"{device_name(device)}, {format_bytes(free_memory(device))} free"
            )
    elif torch.version.cuda is not None:
        advice.append(
            "torch was built for CUDA but finds no GPU: check its driver (nvidia-smi)."
        )
    rows["chosen by 'auto'"] = pick_device("auto")
    return rows


def _memory(advice: list[str]) -> dict[str, str]:
    import psutil
    from platformdirs import user_cache_path

    total = psutil.virtual_memory().total
    cache = user_cache_path("napari-geosr")
    rows = {
        "total": format_bytes(total),
        "free": format_bytes(free_host_memory()),
        "cache folder": str(cache),
    }
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        rows["cache folder"] += " (cannot be created)"
        advice.append(
            f"The folder for large results ({cache}) cannot be created: "
            f"{error.strerror or error}. Allow writing there{_ELSEWHERE}."
        )
        return rows
    free = psutil.disk_usage(str(cache)).free
    if free < 5e9:
        advice.append(
            f"Only {format_bytes(free)} is free on the disk for large results "
            f"({cache})."
        )
    return {**rows, "free disk space": format_bytes(free)}


def _loops(advice: list[str]) -> dict[str, str]:
    folder = loop_cache()
    if not folder:
        advice.append(
            "Compiled loops cannot be cached, because neither the folder of the "
            "installation nor the cache folder can be written. They are compiled "
            "again in each process, which takes seconds. Set the environment variable "
            "NUMBA_CACHE_DIR to a folder that you can write to."
        )
    return {"cached in": folder or "not cached"}


def _display(advice: list[str]) -> dict[str, str]:
    qt = [name for name in _QT if find_spec(name) is not None]
    if not qt:
        advice.append(
            "Qt is not installed: napari cannot open a window, but the command line "
            "works. "
            'Install it with: pip install "napari-geosr[pyqt6]"'
        )
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    needs = sys.platform.startswith("linux")
    if qt and needs and not shown:
        advice.append(
            "There is no display (DISPLAY is not set): napari needs one, but the "
            "command line does not."
        )
    return {
        "Qt": ", ".join(f"{name} {_version(name)}" for name in qt) or "not installed",
        "display": shown or ("none" if needs else "system default"),
    }


def _models(advice: list[str]) -> dict[str, str]:
    entries = zoo.list_models()
    if not entries:
        advice.append("No model was found: the installation is incomplete.")
    rows = {
        entry.name: "bundled" if entry.bundled else str(entry.path) for entry in entries
    }
    for path, reason in zoo.damaged().items():
        rows[f"damaged: {path.name}"] = str(path)
        advice.append(f"A model was skipped: {reason}")
    return {**rows, "folder of your models": str(zoo.user_folder())}
