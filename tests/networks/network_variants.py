"""Small settings of every network, for the tests that all of them must pass.

A network that is not listed is tested with its defaults.
"""

from __future__ import annotations

from typing import Any

from napari_geosr.networks import NETWORKS

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "msdnet": [
        {"depth": 4, "dilations": (1, 2, 4)},
        {"depth": 3, "width": 4, "adjacent_slices": 5, "dilations": (1, 3)},
        {"depth": 3, "width": 2, "residual": False, "dilations": (2, 1)},
        {"depth": 3, "ndim": 3, "dilations": (1, 2)},
    ],
    "msdnet_sr": [
        {"ndim": 2, "depth": 3, "width": 2, "dilations": (1, 3), "features": 4},
        {
            "ndim": 2,
            "upscale_factor": 4,
            "adjacent_slices": 3,
            "depth": 2,
            "width": 3,
            "dilations": (2, 1),
            "features": 3,
        },
        {
            "ndim": 3,
            "upscale_factor": 8,
            "depth": 2,
            "width": 2,
            "dilations": (1, 2),
            "features": 2,
        },
    ],
    "light_sr": [
        {"ndim": 2, "upscale_factor": 2, "features": 6, "blocks": 2},
        {"ndim": 2, "upscale_factor": 4, "features": 4, "blocks": 1},
        {"ndim": 2, "upscale_factor": 8, "features": 3, "adjacent_slices": 3},
        {"ndim": 3, "upscale_factor": 2, "features": 4, "blocks": 1},
        {"ndim": 3, "upscale_factor": 4, "features": 3, "blocks": 1},
        {"ndim": 3, "upscale_factor": 8, "features": 2, "blocks": 1},
    ],
    "bottleneck_sr": [
        {"ndim": 2, "upscale_factor": 2, "features": 6, "inner": 3, "blocks": 2},
        {"ndim": 2, "upscale_factor": 8, "features": 4, "adjacent_slices": 3},
        {"ndim": 3, "upscale_factor": 4, "features": 5, "inner": 2, "blocks": 2},
        {"ndim": 3, "upscale_factor": 8, "features": 3, "inner": 2, "blocks": 1},
    ],
    "fsrcnn": [
        {"ndim": 2, "upscale_factor": 2, "features": 6, "inner": 3, "blocks": 2},
        {"ndim": 2, "upscale_factor": 8, "features": 4, "inner": 2, "blocks": 1},
        {
            "ndim": 2,
            "upscale_factor": 4,
            "features": 5,
            "inner": 3,
            "blocks": 1,
            "adjacent_slices": 3,
        },
        {"ndim": 3, "upscale_factor": 2, "features": 4, "inner": 2, "blocks": 1},
        {"ndim": 3, "upscale_factor": 4, "features": 3, "inner": 2, "blocks": 1},
    ],
    "rcan": [
        {"ndim": 2, "upscale_factor": 2, "features": 8, "groups": 2, "blocks": 1},
        {"ndim": 2, "upscale_factor": 8, "features": 8, "reduction": 2, "groups": 1},
        {
            "ndim": 2,
            "upscale_factor": 4,
            "features": 6,
            "reduction": 2,
            "groups": 1,
            "blocks": 1,
            "window": 9,
            "adjacent_slices": 3,
        },
        {
            "ndim": 3,
            "upscale_factor": 2,
            "features": 4,
            "groups": 1,
            "blocks": 1,
            "window": 3,
        },
        {"ndim": 3, "upscale_factor": 4, "features": 4, "groups": 1, "blocks": 1},
    ],
    "rep_sr": [
        {"ndim": 2, "upscale_factor": 2, "features": 4, "blocks": 2},
        {
            "ndim": 2,
            "upscale_factor": 4,
            "features": 3,
            "blocks": 2,
            "adjacent_slices": 5,
        },
        {"ndim": 2, "upscale_factor": 8, "features": 3, "blocks": 1, "merged": True},
        {"ndim": 3, "upscale_factor": 4, "features": 3, "blocks": 1, "merged": True},
        {"ndim": 3, "upscale_factor": 8, "features": 2, "blocks": 1},
    ],
    "noise_bounded": [
        {"features": 4, "blocks": 1, "adjacent_slices": 5},
        {"features": 4, "blocks": 2},
        {"features": 4, "blocks": 1, "ndim": 3},
        {"body": "msdnet", "adjacent_slices": 3},
        {"body": "unet"},
    ],
    "conditioned_sr": [
        {"ndim": 2, "upscale_factor": 2, "features": 4, "adjacent_slices": 3},
        {"ndim": 2, "upscale_factor": 8, "features": 4, "sharpness": True},
        {"ndim": 3, "upscale_factor": 2, "features": 4, "blocks": 1},
        {
            "ndim": 3,
            "upscale_factor": 4,
            "features": 4,
            "blocks": 1,
            "coarse_blocks": 2,
            "sharpness": True,
        },
    ],
    "resnet": [
        {"features": 6, "blocks": 2},
        {"features": 4, "blocks": 1, "merge": 4, "residual": False},
        {"features": 4, "blocks": 1, "upscale_factor": 2, "adjacent_slices": 3},
        {"features": 4, "blocks": 1, "merge": 1, "upscale_factor": 4},
        {"features": 3, "blocks": 1, "merge": 1, "upscale_factor": 8},
        {"features": 3, "blocks": 1, "merge": 4, "upscale_factor": 8},
        {"features": 3, "blocks": 1, "ndim": 3, "upscale_factor": 2},
    ],
    "tomogan": [
        {"width": 4},
        {"width": 3, "adjacent_slices": 5, "residual": True},
    ],
    "residual_diffusion": [
        {"features": 8, "levels": 1},
        {"features": 8, "upscale_factor": 2},
        {"features": 8, "levels": 1, "ndim": 3, "upscale_factor": 4},
        {"features": 8, "levels": 1, "ndim": 3, "merge": 2},
    ],
    "diffusion_unet": [
        {"features": 8},
        {"features": 8, "levels": 1, "adjacent_slices": 3, "residual": True},
        {"features": 8, "levels": 1, "ndim": 3},
        {"features": 8, "levels": 1, "condition": "porosity"},
    ],
    "unet": [
        {"levels": 2, "features": 3},
        {"levels": 1, "features": 3, "adjacent_slices": 5, "top_skip": False},
        {"levels": 1, "features": 3, "pooling": "max", "residual": False},
        {"levels": 1, "features": 2, "ndim": 3, "upsampling": "nearest"},
        {"levels": 1, "features": 3, "batch_norm": True},
        {"levels": 1, "features": 2, "ndim": 3, "batch_norm": True},
        {"levels": 2, "features": 2, "upscale_factor": 2, "adjacent_slices": 3},
        {"levels": 3, "features": 2, "upscale_factor": 4, "upsampling": "nearest"},
        {"levels": 1, "features": 2, "upscale_factor": 8, "pooling": "max"},
        {"levels": 1, "features": 2, "ndim": 3, "upscale_factor": 2},
    ],
}

CASES = [
    (name, kwargs, f"{name}-{i}")
    for name in NETWORKS.names()
    for i, kwargs in enumerate(VARIANTS.get(name, [{}]))
]
