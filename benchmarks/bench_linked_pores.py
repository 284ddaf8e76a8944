"""Time for which a change of the selection blocks the window, with 100,000 pores.

A lasso is drawn in steps over the plot of the Porosity dock. Each step selects other
pores in the plot, the picture and the table. Two times are printed: until Qt and the
graphics card have received the whole change, and until the change is on screen. Without
a graphics card, most of the latter is spent on drawing, so after each step the same
window is also redrawn without any change. The target is 50 ms.

In these steps the picture is updated after each change. Then the lasso is drawn with
the mouse, which moves every 8 ms; the picture is updated as often as the plot allows.
The gaps in the event loop are compared with those for redrawing the unchanged window
every 16 ms. Finally, the picture is panned and each redraw is timed, for the image
alone and with the selected pores.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/bench_linked_pores.py
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from _brushing import brushed, foam, redrawn, repeated, shown_pores
from _window import TARGET, Gaps, wait


def timed(change: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds of the change itself, and until the change is on screen."""
    wait(0.02)
    start = time.perf_counter()
    change()
    own = time.perf_counter() - start
    QApplication.processEvents()
    QApplication.processEvents()
    return 1000 * own, 1000 * (time.perf_counter() - start)


def frame_times(viewer: Any, frames: int = 60) -> np.ndarray:
    """Pan the picture, and return the time of each redraw in milliseconds."""
    times, middle = [], viewer.camera.center
    for i in range(frames):
        place = (*middle[:-1], middle[-1] + 40 * np.sin(i / 8))
        times.append(timed(lambda place=place: setattr(viewer.camera, "center", place)))
    viewer.camera.center = middle
    return np.array(times)[5:, 1]


def lassos(plot: Any, steps: int) -> list[list[tuple[float, float]]]:
    """Growing circles around the middle of the plot, in plot coordinates."""
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
    """Finish a lasso with the mouse, which updates plot, picture and table together."""
    plot._lasso, plot._press = lasso, None
    plot._follow_lasso()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--planes", type=int, default=96)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--screenshot", help="file for a picture of the window")
    options = parser.parse_args()
    import napari

    viewer = napari.Viewer()
    viewer.window._qt_window.resize(1500, 900)
    image = viewer.add_image(foam((options.planes, 512, 512)), name="foam", units="um")
    alone = frame_times(viewer)
    viewer.layers.remove(image)
    dock = shown_pores(viewer, options.planes)
    plot, marked = dock.result.plot, dock.pores.marked
    scatter = plot.scatter
    scatter._before, scatter._modifiers = marked.mask, Qt.KeyboardModifier.NoModifier
    counts, rows = [], {}
    timed(
        lambda: brush(scatter, lassos(scatter, 2)[1])
    )  # the first drawing loads everything
    for name, tab, only in (
        ("plot and picture", 2, False),
        ("picture and table", 1, False),
        ("picture, and a table of the selected pores", 1, True),
    ):
        dock.tabs.setCurrentIndex(tab)
        plot.only_selected.setChecked(only)
        wait(0.5)
        times, again = [], []
        for lasso in lassos(scatter, options.steps):
            times.append(timed(lambda lasso=lasso: brush(scatter, lasso)))
            counts.append(marked.count)
            again.append(timed(lambda: redrawn(viewer, dock)))
        rows[name] = np.concatenate([times, again], axis=1)
    scatter._press = None
    together = frame_times(viewer)
    plot.only_selected.setChecked(False)
    dock.tabs.setCurrentIndex(2)
    wait(0.5)
    stroke = brushed(viewer, dock)
    plain = repeated(lambda: redrawn(viewer, dock))
    wait(0.6)
    with Gaps() as rest:
        brush(scatter, lassos(scatter, 3)[1])
        wait(0.6)
    if len(set(counts)) < options.steps // 2:
        raise RuntimeError(f"The lasso selected hardly any pores: {counts}")
    total = len(marked.mask)
    print(f"{total:,} pores, selections of {min(counts):,} to {max(counts):,}\n")
    print("| visible | change itself | on screen | 95 % below | unchanged | added |")
    print("|---|---|---|---|---|---|")
    for name, times in rows.items():
        own, shown, _, plain_time = np.median(times, axis=0)
        print(
            f"| {name} | {own:.1f} ms | {shown:.0f} ms "
            f"| {np.percentile(times[:, 1], 95):.0f} ms | {plain_time:.0f} ms "
            f"| {np.median(times[:, 1] - times[:, 3]):.1f} ms |"
        )
    print(f"lasso drawn with the mouse: {stroke}")
    for name, gaps in (("lasso", stroke.gaps), ("unchanged window redrawn", plain)):
        long = [gap for gap in gaps.found if gap > 5]
        print(
            f"gaps of the event loop, {name}: median {np.median(long):.0f} ms, "
            f"longest {max(long):.0f} ms"
        )
    for name, found in (("image alone", alone), ("pores and selection", together)):
        print(f"frame of a moved picture, {name}: {np.median(found):.0f} ms")
    print(f"longest gap until features and thumbnail follow: {max(rest.found):.0f} ms")
    print(f"target: {TARGET:.0f} ms")
    if options.screenshot:
        viewer.window._qt_window.grab().save(options.screenshot)
    viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
