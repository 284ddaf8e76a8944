"""Closing the window at any moment of any operation: no exception, exit code 0."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opening import environment

#: Total number of closes of the window.
N_CLOSES = 20

SCRIPT = """
import random, sys, time
import napari, numpy as np
from qtpy.QtCore import QTimer

draw = random.Random(int(sys.argv[1]))
from napari_geosr.gui.restore.verdict import panel
panel.confirm_harmful_run = lambda *_: True  # nobody is there to be asked
from opening import opened

viewer = napari.Viewer()
rng = np.random.default_rng(0)
scan = rng.normal(100, 10, (32, 160, 160)).astype("f4")
scan[:, 40:90, 40:90] -= 60
layer = viewer.add_image(scan, name="scan", units="um", scale=(2, 2, 2))
what = draw.choice(("preview", "run", "measure", "train", "look", "remove", "docks"))
if what in ("preview", "run", "look", "remove"):
    dock = opened(viewer, "Restore")
    if what != "look":
        {"remove": dock.preview_button, "preview": dock.preview_button,
         "run": dock.run_button}[what].click()
elif what == "measure":
    dock = opened(viewer, "Porosity")
    dock.measure_button.click()
elif what == "train":
    dock = opened(viewer, "Train")
    dock.have.setCurrentText("One noisy scan only")
    dock.estimate_button.click()
else:
    for name in draw.sample(("Restore", "Porosity", "Train", "Jobs", "Models"), 3):
        viewer.window.add_plugin_dock_widget("napari-geosr", name)

def close():
    print("closing during", what, flush=True)
    if what == "remove":
        viewer.layers.remove(layer)
    global began
    began = time.perf_counter()
    viewer.close()

QTimer.singleShot(int(draw.uniform(0, 4000)), close)
napari.run()
print(f"ended in {time.perf_counter() - began:.2f} s", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(N_CLOSES))
def test_the_window_closes_at_a_random_moment(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, str(seed)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ended in" in done.stdout, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert "Error" not in done.stderr, done.stderr[-3000:]
