"""The device and precision that `accelerate` trains with."""

from __future__ import annotations

import os
from typing import Any

import torch

from napari_geosr.learning.config import TrainingConfig

_VARIABLE = "ACCELERATE_TORCH_DEVICE"


def make_accelerator(device: str, precision: str) -> Any:
    """An Accelerator on `device`; of several processes, on a GPU of its own.

    Accelerate keeps its first choice for all later ones of a Python session, and takes
    a device from the environment alone.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)
    AcceleratorState._reset_state(reset_partial_state=True)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = device
    try:
        return Accelerator(cpu=device == "cpu", mixed_precision=precision)
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before


def precision_on(config: TrainingConfig, device: str) -> str:
    """What accelerate calls the precision of the config on a device."""
    # On a processor the network reduces its own hidden maps instead.
    wanted = config.precision in ("auto", "bfloat16")
    return "bf16" if wanted and device.startswith("cuda") else "no"
