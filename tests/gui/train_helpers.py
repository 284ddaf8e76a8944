"""Small noisy scans in layers, and docks set up for training runs of seconds."""

from __future__ import annotations

import numpy as np
from opening import PLUGIN as PLUGIN
from opening import opened as opened

from napari_geosr.physics.specimens.phantoms import sphere_foam

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}
SMALL = {"layers": 3, "width": 2, "batch_size": 2, "patch": 32, "threads": 1}
TRAIN, JOBS = "Train", "Jobs"


def noisy_scans(viewer, seed: int = 0):
    """Add two noisy scans of a 16 × 64 × 64 foam; the first one is selected."""
    foam = sphere_foam((16, 64, 64), porosity=0.3, radius=(4, 9), gap=1.0, seed=3)
    clean = 100 * (1 - foam.fraction)
    rng = np.random.default_rng(seed)
    scans = [
        viewer.add_image(
            (clean + rng.normal(0, 30, clean.shape)).astype(np.float32),
            name=name,
            colormap="viridis",
            **PLACE,
        )
        for name in ("first", "second")
    ]
    viewer.layers.selection.active = scans[0]
    return scans


def set_small(dock, *, steps: int, name: str = "mine", folder=None, **more):
    """Set up training of a tiny network."""
    dock.settings.form.set_values(SMALL | more)
    dock.steps.setValue(steps)
    dock.name.setText(name)
    if folder is not None:
        dock.folder.set_path(folder)


def preview_layer(viewer):
    found = [la for la in viewer.layers if "training preview" in la.name]
    return found[0] if found else None
