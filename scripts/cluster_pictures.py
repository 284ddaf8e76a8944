"""Make the pictures of docs/cluster.md: a run of the Restore dock under a real SLURM.

Requires root access and ``apt-get install slurm-wlm munge``, which the script does not
install itself. A SLURM cluster with one node runs in a temporary folder. Run under a
display: ``xvfb-run -a -s "-screen 0 1600x1000x24" python scripts/cluster_pictures.py
[--out FOLDER]``.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import screenshots
from napari_geosr import io
from napari_geosr.jobs.cluster import profiles
from napari_geosr.jobs.cluster.profiles import Profile
from screenshots import PLUGIN, dock_of, new_viewer, open_dock, open_restore, save, wait

sys.path.append(str(Path(__file__).parents[1] / "tests" / "queues"))
import slurm_cluster


def write_scan(folder: Path) -> Path:
    """Save the sample scan to a file, which the cluster reads."""
    from napari_geosr.gui.layers import volume_from_layer

    viewer = new_viewer()
    viewer.open_sample(PLUGIN, "noisy_foam")
    volume = volume_from_layer(viewer.layers["noisy foam"])
    path = folder / "foam.ome.tif"
    io.write(volume.replace(name="foam"), path)
    viewer.close()
    return path


def take(folder: Path) -> None:
    """Take pictures of a run, from the dialog to the result."""
    scan = write_scan(folder)
    profiles.save_profile("mine", Profile(queue="slurm", cores=2, walltime="1:00:00"))
    viewer = new_viewer(size=(1280, 900))
    [layer] = viewer.open(scan, plugin=PLUGIN)
    dock = open_restore(viewer, layer.name)
    dock.cluster.widget.click()
    dialog = dock.cluster.dialog
    dialog.cluster.setCurrentIndex(dialog.cluster.findData("mine"))
    dialog.script_section.set_open(True)
    wait(1)
    dialog.grab().save(str(screenshots.FOLDER / "cluster_dialog.png"))
    dialog.submit_button.click()
    wait(until=lambda: not dock.activity.busy and "SLURM job" in dock.message.text)
    listing = open_dock(viewer, "Jobs")
    for part in list(viewer.window.dock_widgets.values()):
        if part is dock:
            dock_of(part).close()
    wait(until=lambda: listing.view.state == "done")
    listing.view.show_button.click()
    wait(until=lambda: len(viewer.layers) == 2)
    save(viewer, "cluster_jobs")


def main() -> None:
    """Start a private SLURM, and make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=screenshots.FOLDER)
    screenshots.FOLDER = parser.parse_args().out
    if reason := slurm_cluster.why_missing():
        sys.exit(reason)
    screenshots.use_empty_home()
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,
        slurm_cluster.slurm(Path(folder)) as conf,
    ):
        os.environ["SLURM_CONF"] = str(conf)
        take(screenshots.scans_folder())


if __name__ == "__main__":
    main()
