"""Named sizes of the network `sparse_unet`, without importing torch."""

from __future__ import annotations

#: Number of feature maps per level, from the finest to the coarsest, of the two
#: published networks (for completion and super-resolution), and of a network of
#: intermediate size.
PRESETS: dict[str, tuple[int, ...]] = {
    "completion": (2, 2, 4, 4, 4, 4, 16),
    "medium": (4, 4, 8, 8, 16, 16, 32),
    "super-resolution": (8, 8, 16, 16, 32, 32, 64),
}
