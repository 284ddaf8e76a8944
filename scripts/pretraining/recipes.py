"""The recipes of the bundled models: every number that training depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Recipe:
    """One model's network, data and schedule.

    Attributes
    ----------
    scan_shape : tuple of int
        Shape of the simulated scans in the pool (Z, Y, X).
    patch : tuple of int
        Shape of the training patches; Z is ignored for networks on planes.
    noise, blur : tuple of float
        Ranges they are drawn from: noise in units of the contrast, blur in voxels.
    strong_noise : float
        Share of the scans whose noise is uniform, not log-uniform, in its range.
    small_pores : float
        Share of the scans that are foams of small pores in strong noise.
    pool : int
        Scans kept at hand; every `refresh` steps the oldest is replaced by a new one.
    learning_rate : float
        Adam's at the start; it falls to `final_rate` times that along a cosine.
    softness : float
        Errors (in units of the contrast) below it count squared, above it linearly.
    single_plane : float
        Share of the patches that see one plane in place of its neighbours too.
    before : tuple of dict
        How the weights that this training starts from were trained, stage by stage:
        what differs from this recipe. They are given with ``--start``.
    """

    name: str
    task: Literal["denoise", "super-resolution"]
    network: str
    network_kwargs: dict[str, Any]
    scan_shape: tuple[int, int, int]
    patch: tuple[int, int, int]
    batch: int
    steps: int
    noise: tuple[float, float]
    blur: tuple[float, float]
    strong_noise: float = 0.0
    small_pores: float = 0.0
    downsample: int = 1
    pool: int = 64
    refresh: int = 10
    learning_rate: float = 2e-3
    final_rate: float = 0.01
    warm_up: int = 100
    ema: float = 0.999
    softness: float = 0.1
    gradient_clip: float = 1.0
    single_plane: float = 0.08
    seed: int = 20260
    before: tuple[dict[str, Any], ...] = ()


FOAM_DENOISE = Recipe(
    name="foam-denoise",
    task="denoise",
    network="msdnet",
    network_kwargs={
        "ndim": 2,
        "adjacent_slices": 9,
        "depth": 12,
        "width": 8,
        "dilations": [1, 2, 4, 8],
        "residual": True,
    },
    scan_shape=(24, 128, 128),
    patch=(1, 96, 96),
    batch=4,
    steps=5_000,
    noise=(0.08, 0.8),
    blur=(0.0, 1.2),
    strong_noise=0.4,
    small_pores=0.4,
    learning_rate=5e-4,
    softness=0.2,
    seed=20262,
    before=(
        {
            "adjacent_slices": 5,
            "strong_noise": 0.0,
            "small_pores": 0.0,
            "learning_rate": 2e-3,
            "softness": 0.1,
            "seed": 20260,
            "steps": 16_000,
            "schedule": "by the clock, with restarts",
        },
        {
            "small_pores": 0.25,
            "learning_rate": 1e-3,
            "softness": 0.1,
            "seed": 20261,
            "steps": 13_000,
            "schedule": "its first 7,500 steps followed one of 20,000 steps",
        },
    ),
)

FOAM_SR = Recipe(
    name="foam-sr-x2",
    task="super-resolution",
    network="light_sr",
    network_kwargs={"ndim": 3, "upscale_factor": 2, "features": 16, "blocks": 5},
    scan_shape=(48, 48, 48),
    patch=(24, 24, 24),
    batch=4,
    steps=40_000,
    noise=(0.03, 0.5),
    blur=(0.25, 0.8),
    downsample=2,
    learning_rate=1e-3,
)

RECIPES = {recipe.name: recipe for recipe in (FOAM_DENOISE, FOAM_SR)}
