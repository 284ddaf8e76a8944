"""Make the pictures of structured illumination for the documentation.

Usage: ``python scripts/sim_pictures.py [--out FOLDER]``. Writes ``sim_methods.webp``
(simulated filaments by all methods, with the object) and ``sim_check.webp`` (the page
of ``napari-geosr sim check``). Everything is simulated.
"""

from __future__ import annotations

import argparse
import io as streams
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.types import AnyArray
from napari_geosr.operations.sim import (
    METHOD_TITLES,
    SimConfig,
    SimulateSimConfig,
    check_steps,
    estimate_steps,
    open_frames,
    run_steps,
    simulate_sim_steps,
)

METHODS = ("widefield", "wiener", "joint-rl")
DOCS = Path(__file__).resolve().parents[1] / "docs" / "images"
INK, PAPER = "#f2f2f2", "#16181d"
#: Region of the field that is shown, in camera pixels.
SHOWN = slice(90, 154)
QUALITY = 82


def main() -> None:
    """Simulate, reconstruct and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    matplotlib.use("Agg")
    with tempfile.TemporaryDirectory() as name:
        settings = SimulateSimConfig(structure="filaments", snr=20, size=256)
        made = run_to_end(simulate_sim_steps(Path(name) / "s", settings))
        config = SimConfig(upscale_factor=4, checks=False)
        frames = open_frames(made.files["raw"], config)
        estimate = run_to_end(estimate_steps(frames, config))
        images = {}
        for method in METHODS:
            wanted = config.model_copy(update={"method": method})
            result = run_to_end(run_steps(frames, wanted, patterns=estimate))
            images[METHOD_TITLES[method]] = np.asarray(result.volume)
        images["Object"] = np.asarray(io.read(made.files["truth"]))
        check = run_to_end(check_steps(frames, config, out=Path(name) / "c"))
        print(check.warnings)
        methods_picture(images, options.out / "sim_methods.webp")
        page = Image.open(Path(name) / "c" / "check.png").convert("RGB")
        page.save(options.out / "sim_check.webp", quality=QUALITY)


def methods_picture(images: dict[str, AnyArray], path: Path) -> None:
    """Draw the same region of each image side by side."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(images), figsize=(3 * len(images), 3.3), facecolor=PAPER
    )
    part = slice(4 * SHOWN.start, 4 * SHOWN.stop)
    for axis, (title, image) in zip(axes, images.items(), strict=True):
        shown = image[part, part]
        axis.imshow(shown, cmap="gray", vmin=0, vmax=np.percentile(shown, 99.7))
        axis.set_title(title, color=INK)
        axis.set_axis_off()
    figure.tight_layout()
    stream = streams.BytesIO()
    figure.savefig(stream, format="png", dpi=90, facecolor=PAPER)
    Image.open(stream).convert("RGB").save(path, quality=QUALITY)


if __name__ == "__main__":
    main()
