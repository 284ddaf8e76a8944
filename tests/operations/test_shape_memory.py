"""The memory of shapes in memory is not larger than estimated before a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from napari_geosr.operations.shapes import layers, meshing, shell

#: Peak memory, in addition to the input, after a first run that loads everything.
CODE = """
import ctypes, sys
import numpy as np
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.shapes import extract_surface
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes.complete import complete_mask_steps
from napari_geosr.operations.shapes.simulation import simulated_skull
def run(labels):
    inside, volume = labels.view(bool), Volume(labels, "ZYX")
    if sys.argv[1] == "surface":
        return extract_surface(inside, (1, 1, 1), "pixel")
    if sys.argv[1] == "refinement":
        config = shapes.RefineShapeConfig(threads=1)
        return run_to_end(shapes.refined_layer_steps(volume, config))
    config = shapes.CompleteShapeConfig(threads=1)
    if sys.argv[1] == "missing part":
        return run_to_end(complete_mask_steps(inside, config))
    return run_to_end(shapes.completed_layer_steps(volume, config))
skull = lambda n: simulated_skull(3, n, "sphere").incomplete.view(np.uint8)
run(skull(56))
labels = skull(int(sys.argv[2]))
ctypes.CDLL("libc.so.6").malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")
value = lambda name: next(int(line.split()[1]) for line in open("/proc/self/status")
                          if line.startswith(name))
base = value("VmRSS")
run(labels)
print((value("VmHWM") - base) * 1024)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak memory is not known"
)
@pytest.mark.parametrize(
    "kind", ["refinement", "completion", "missing part", "surface"]
)
def test_the_estimate_is_not_too_small(kind: str) -> None:
    edge = 128
    words = [sys.executable, "-c", CODE, kind]
    words += [str(edge // 2 if kind == "refinement" else edge)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    estimates = {
        "missing part": shell.bytes_for_completion(edge**3),
        "surface": meshing.bytes_for_surface(edge**3),
    }
    estimate = estimates.get(kind, layers.bytes_for_result(edge**3))
    peak = int(done.stdout)
    assert peak < 1.05 * estimate
    assert estimate < 15 * peak  # of some use
