"""Closing the window in the middle of a run: no exception, exit code 0."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest
from opening import environment

SCRIPT = """
import sys, time
import napari, numpy as np
from qtpy.QtCore import QTimer

moment = sys.argv[1]
# A run on noise is expected to do harm: nobody is there to be asked.
from napari_geosr.gui.restore.verdict import panel
panel.confirm_harmful_run = lambda *_: True
# Models are neither ranked nor examined first: that takes longer than the run.
from napari_geosr.gui.restore.verdict.activity import VerdictActivity
VerdictActivity._next = lambda _: ""
VerdictActivity.has_verdict = property(lambda _: True)
viewer = napari.Viewer()
rng = np.random.default_rng(0)
viewer.add_image(rng.normal(100, 10, (8, 64, 64)).astype("f4"), units="um")
from opening import opened
dock = opened(viewer)
if moment == "slow":
    # A tile that takes longer than a closing dock waits.
    from napari_geosr.operations.restore import preview
    region = preview.restore_region
    preview.restore_region = lambda *a, **k: (time.sleep(5), region(*a, **k))[1]
    moment = "preview"
if moment == "run":
    # Several tiles, and time to close between them.
    import importlib
    run = importlib.import_module("napari_geosr.operations.restore.run")
    restore_tiles = run.restore_tiles

    def slowly(*args, **how):
        steps = restore_tiles(*args, **how, tile=(4, 32, 32))
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return end.value
            yield step
            time.sleep(0.5)

    run.restore_tiles = slowly
if moment != "prepare":
    getattr(dock, moment + "_button").click()

def watch():
    if dock.activity.busy != moment:
        return
    if moment == "run" and dock.activity.target() is None:
        return
    timer.stop()
    print("closing during", dock.activity.busy, flush=True)
    print("closed at", time.time(), flush=True)
    viewer.close()

timer = QTimer()
timer.timeout.connect(watch)
timer.start(20)
napari.run()
print("ended", flush=True)
"""

#: The longest time in seconds from closing the window to the end of the process. On two
#: cores that others use as well, 5 to 10 s were measured.
LINGERS = 15.0


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("prepare", marks=pytest.mark.slow),
        pytest.param("preview", marks=pytest.mark.slow),
        pytest.param("slow", marks=pytest.mark.slow),
        "run",
    ],
)
def test_the_window_closes_in_the_middle(moment):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", SCRIPT, moment],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,  # twice the start time of napari and torch on a slow machine
        check=False,
    )
    ended = time.time()
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"closing during {moment.replace('slow', 'preview')}" in done.stdout
    assert "ended" in done.stdout
    (closed,) = re.findall(r"closed at ([\d.]+)", done.stdout)
    print(f"{ended - float(closed):.2f} s from closing to the end of the process")
    assert ended - float(closed) < LINGERS
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert "Error" not in done.stderr, done.stderr[-3000:]
