"""How long a change of the selection blocks the window, with 100,000 pores.

A lasso is drawn over the plot of the Porosity dock in steps. Each step selects other
pores in plot, picture and table; the time is what the event loop takes to show all of
them. The target is 50 ms. Without a graphics card, most of it is drawing: the same
window is also drawn again without any change, and frames are timed while the picture
is moved, of the image alone and with the selected pores.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/bench_linked_pores.py
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtWidgets import QApplication

from bench_window import POROSITY, TARGET, Gaps, opened, wait, wait_until

#: Distance between the centres of two pores, in voxels.
STEP = 6


def foam(shape: tuple[int, int, int]) -> np.ndarray:
    """Separate box-shaped pores of random size in a bright solid."""
    rng = np.random.default_rng(0)
    data = np.full(shape, 180, np.uint8)
    for corner in np.ndindex(*(n // STEP for n in shape)):
        size = rng.integers(2, STEP, 3)
        box = tuple(
            slice(STEP * c, STEP * c + s) for c, s in zip(corner, size, strict=True)
        )
        data[box] = 60
    return data


def timed(change: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of a change until it is on screen, and of processor time in this."""
    wait(0.02)
    start, worked = time.perf_counter(), time.thread_time()
    change()
    QApplication.processEvents()
    QApplication.processEvents()
    spent = time.perf_counter() - start
    return 1000 * spent, 1000 * (time.thread_time() - worked)


def redrawn(viewer: Any, dock: Any) -> None:
    """Have the canvas and the plot drawn again, without any change."""
    viewer.window._qt_viewer.canvas.native.update()
    dock.result.plot.scatter.plot.viewport().update()


def frame_times(viewer: Any, frames: int = 60) -> np.ndarray:
    """Milliseconds of each frame while the picture is moved."""
    times, middle = [], viewer.camera.center
    for i in range(frames):
        place = (*middle[:-1], middle[-1] + 40 * np.sin(i / 8))
        times.append(timed(lambda place=place: setattr(viewer.camera, "center", place)))
    viewer.camera.center = middle
    return np.array(times)[5:, 0]


def lassos(plot: Any, steps: int) -> list[list[tuple[float, float]]]:
    """Growing circles around the middle of the plot, in positions on its axes."""
    turns = np.linspace(0, 2 * np.pi, 90)
    found = []
    for radius in np.linspace(0.05, 0.6, steps):
        circle = []
        for turn in turns:
            place = (np.cos(turn), np.sin(turn))
            ends = [(scale.low, scale.high) for scale in plot._scales]
            x, y = (
                low + (high - low) * (0.5 + radius * part)
                for (low, high), part in zip(ends, place, strict=True)
            )
            circle.append((float(x), float(y)))
        found.append(circle)
    return found


def brush(plot: Any, lasso: list[tuple[float, float]]) -> None:
    """What a movement of the mouse with its button pressed does."""
    plot._lasso = lasso
    plot._draw_lasso()
    plot._apply_lasso()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--planes", type=int, default=96)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--screenshot", help="file for a picture of the window")
    options = parser.parse_args()
    import napari
    from qtpy.QtCore import Qt

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1500, 900)
    viewer.add_image(foam((options.planes, 512, 512)), name="foam", units="um")
    alone = frame_times(viewer)
    dock = opened(viewer, POROSITY)
    wait_until("grey values", lambda: dock.settings.threshold is not None)
    dock.settings.form.set_values({"min_voxels": 1})
    dock.measure_button.click()
    wait_until("measured", lambda: not dock.is_running, 600)
    dock.tabs.setCurrentIndex(2)
    wait(0.5)
    plot, marked = dock.result.plot, dock.pores.marked
    scatter = plot.scatter
    for menu, column in ((plot.x, "centroid_x"), (plot.y, "centroid_y")):
        menu.setCurrentIndex(menu.findData(column))
    scatter._before, scatter._modifiers = marked.mask, Qt.KeyboardModifier.NoModifier
    counts, rows = [], {}
    timed(lambda: brush(scatter, lassos(scatter, 2)[1]))  # loads what is drawn first
    for name, tab, only in (
        ("plot and picture", 2, False),
        ("picture and table", 1, False),
        ("picture, and a table of the selected pores", 1, True),
    ):
        dock.tabs.setCurrentIndex(tab)
        plot.only_selected.setChecked(only)
        wait(0.5)
        times = []
        for lasso in lassos(scatter, options.steps):
            times.append(timed(lambda lasso=lasso: brush(scatter, lasso)))
            counts.append(marked.count)
        rows[name] = np.array(times)
    again = [timed(lambda: redrawn(viewer, dock)) for _ in range(options.steps)]
    rows["(the same window, unchanged)"] = np.array(again)
    together = frame_times(viewer)
    plot.only_selected.setChecked(False)
    dock.tabs.setCurrentIndex(2)
    wait(0.5)
    with Gaps() as gaps:
        brush(scatter, lassos(scatter, 3)[1])
        wait(0.6)
    if len(set(counts)) < options.steps // 2:
        raise RuntimeError(f"The lasso hardly selected anything: {counts}")
    total = len(marked.mask)
    print(f"{total:,} pores, selections of {min(counts):,} to {max(counts):,}\n")
    print("| visible | median (ms) | 95 % below | processor time: median | longest |")
    print("|---|---|---|---|---|")
    for name, times in rows.items():
        (middle, high), work = np.percentile(times[:, 0], (50, 95)), times[:, 1]
        print(
            f"| {name} | {middle:.0f} | {high:.0f} | {np.median(work):.0f} "
            f"| {work.max():.0f} |"
        )
    for name, found in (("image alone", alone), ("pores and selection", together)):
        print(f"frame of a moved picture, {name}: {np.median(found):.0f} ms")
    print(f"the features follow within {max(gaps.found):.0f} ms of the window's time")
    print(f"target: {TARGET:.0f} ms")
    if options.screenshot:
        viewer.window._qt_window.grab().save(options.screenshot)
    viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
