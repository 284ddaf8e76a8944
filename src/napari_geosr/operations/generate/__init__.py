"""Generate images or volumes with a diffusion model; settings load without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.operations.generate.config import GenerateConfig
    from napari_geosr.operations.generate.run import GeneratedSamples, generate_steps

__all__ = ["GenerateConfig", "GeneratedSamples", "generate_steps"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "config": ["GenerateConfig"],
        "run": ["GeneratedSamples", "generate_steps"],
    },
)
