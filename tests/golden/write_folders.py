"""Write what later releases must read: job folders, unfinished files, a model bundle.

Run it with the release whose files are to be kept; here, that of the commit
`WRITTEN_BY` in ``test_folders.py``::

    PYTHONPATH=OTHER/src python tests/golden/write_folders.py folders.tar.xz

Everything is as small as possible, and stopped about half way. ``expected.json`` next
to each folder contains the results of the same release after resuming.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from golden_figures import CENTRE, JOBS, LEFT, figures_of_volume, job_figures

from napari_geosr import io, simulate
from napari_geosr.cli.app import run
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps

QUICK = {
    "steps": 4,
    "batch-size": 2,
    "patch": 8,
    "layers": 2,
    "width": 2,
    "dimensions": "2D",
    "warm-up": 0,
    "averaging": 0.5,
    "sampling": "uniform",
    "device": "cpu",
    "threads": 1,
    "validate-every": 2,
    "checkpoint-seconds": 0.001,
}


def flags(**values: Any) -> list[str]:
    """``name=value`` as ``--name value``."""
    found: list[str] = []
    for name, value in values.items():
        found += [f"--{name.replace('_', '-')}", str(value)]
    return found


def command(*words: str) -> None:
    """Run a command, which must succeed or be stopped."""
    code = run(list(words))
    assert code == 0, (words, code)


def write_volumes(folder: Path) -> None:
    """Two noisy scans of grains with two grey values, and the grains."""
    rng = np.random.default_rng(3)
    grains = np.kron(rng.integers(0, 2, (2, 6, 6)), np.ones((4, 5, 5))) * 120 + 60
    for name, noise in (("low", 20), ("low2", 20), ("high", 0)):
        data = np.clip(grains + rng.normal(0, noise, grains.shape), 0, 255)
        data = (data // 8 * 8).astype(np.uint8)
        volume = Volume(data, "ZYX", (2.0, 2.0, 2.0), "µm", (10.0, 0.0, 0.0), name=name)
        io.write(volume, folder / f"{name}.ome.tif")


def stop_after(folder: Path, steps: int) -> None:
    """Run a job until it has done some steps; it is then paused."""
    job = JobFolder(folder)
    kinds = ("CheckpointSaved", "CellDone")
    at = {"done": 0}
    running = run_steps(job, should_stop=lambda: at["done"] >= steps)
    for step in running:
        if type(step).__name__ in kinds:
            at["done"] = step.done
    assert job.status().state == "paused", job.status()


def write_training(
    folder: Path, method: str, data: tuple[str, ...], **more: Any
) -> None:
    """A training job on volumes in its folder, stopped after two steps."""
    _settings(folder, data)
    words = ["train", method, "--out", str(folder.parent / "made")]
    words += ["--source", str(folder / "data" / data[0])]
    if len(data) > 1:
        words += ["--target", str(folder / "data" / data[1])]
    words += flags(name="golden", **(QUICK | more))
    _prepared(folder, words)
    stop_after(folder, 2)


def _settings(folder: Path, data: tuple[str, ...]) -> None:
    (folder / "data").mkdir(parents=True)
    for name in data:
        shutil.copy(folder.parent / "volumes" / name, folder / "data" / name)


def _prepared(folder: Path, words: list[str]) -> None:
    """The job that a command creates, in a folder that already contains its data."""
    command(*words, "--prepare")
    made = JobFolder(folder.parent / "made")
    values, name = made.values(), made.status().name
    shutil.rmtree(made.path)
    JobFolder.create(folder, values, name=name, allow_existing=True)


def write_jobs(home: Path) -> None:
    """One job of each kind."""
    write_training(home / "supervised", "supervised", ("low.ome.tif", "high.ome.tif"))
    write_training(home / "noise2void", "noise2void", ("low.ome.tif",))
    critic = {"network": "resnet", "layers": 1, "critic_width": 2}
    pair = ("low.ome.tif", "high.ome.tif")
    write_training(home / "pix2pix", "pix2pix", pair, **critic)
    scan = home / "scan"
    made = simulate("blobs", scan, size=16, rows=4, projections=16, radius=(2, 3))
    projections = made.files["projections"]
    for name in ("from_projections", "ganrec", "study"):
        (home / name / "data").mkdir(parents=True)
        shutil.copy(projections, home / name / "data" / "scan.h5")
    centre = {"centre": CENTRE}
    given = home / "from_projections" / "data" / "scan.h5"
    words = ["train", "noise2inverse", "--out", str(home / "made")]
    words += ["--projections", str(given), *flags(name="golden", splits=2, **centre)]
    _prepared(home / "from_projections", words + flags(**QUICK))
    stop_after(home / "from_projections", 2)
    given = home / "ganrec" / "data" / "scan.h5"
    words = ["train", "ganrec", "--projections", str(given)]
    words += ["--out", str(home / "made")]
    words += flags(name="golden", steps=4, together=2, features=2, **centre)
    words += flags(device="cpu", threads=1, checkpoint_seconds=0.001)
    _prepared(home / "ganrec", words)
    stop_after(home / "ganrec", 6)
    _without_critic(home / "ganrec" / "checkpoints" / "latest.pt")
    values = {
        "operation": "study projections",
        "method": "study",
        "data": {"projections": str(home / "study" / "data" / "scan.h5")},
        "settings": {
            "counts": [5, 10],
            "algorithms": ["fbp", "cgls"],
            "options": {"cgls": {"iterations": 4}},
            "threads": 1,
            **centre,
        },
    }
    JobFolder.create(home / "study", values, name="golden", allow_existing=True)
    stop_after(home / "study", 3)


def _without_critic(path: Path) -> None:
    """Set the discriminator's weights, a megabyte, to zero, which compresses well."""
    import torch

    def zero(values: Any) -> None:
        if isinstance(values, torch.Tensor):
            values.zero_()
        for inner in values.values() if isinstance(values, dict) else ():
            zero(inner)

    state = torch.load(path, weights_only=True)
    large = [values for name, values in _named(state) if "critic" in name]
    assert large
    for values in large:
        zero(values)
    torch.save(state, path)


def _named(values: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found = [(f"{path}/{name}", inner) for name, inner in values.items()]
    for name, inner in list(found):
        if isinstance(inner, dict):
            found += _named({str(k): v for k, v in inner.items()}, name)
    return [(n, v) for n, v in found if isinstance(v, dict)]


def write_left(home: Path) -> None:
    """Files of a stopped restoration and of a stopped reconstruction."""
    from napari_geosr.core.steps import TileDone, run_to_end
    from napari_geosr.inference.tiles.memory import TileMemory
    from napari_geosr.operations.inputs import open_volume
    from napari_geosr.operations.reconstruct import (
        ReconstructConfig,
        reconstruct_steps,
    )
    from napari_geosr.operations.reconstruct import scan as scanning
    from napari_geosr.operations.reconstruct.inputs import open_projections
    from napari_geosr.operations.restore import RestoreConfig, restore_steps

    def stopped(make: Any) -> None:
        tiles: list[Any] = []
        steps = make(lambda: bool(tiles))
        result = run_to_end(
            steps, lambda s: tiles.append(s) if isinstance(s, TileDone) else None
        )
        assert not result.complete

    folder = home / "restore"
    _settings(folder, ("low.ome.tif",))
    config = RestoreConfig.create(
        model=str(home / "bundle"), memory="200MB", threads=1, device="cpu"
    )
    # Use several tiles, although the volume is small.
    TileMemory.max_voxels = lambda *_: 500  # type: ignore[method-assign]
    volume = open_volume(folder / "data" / "low.ome.tif")
    out = folder / "restored.ome.tif"
    stopped(lambda stop: restore_steps(volume, config, out=out, should_stop=stop))
    folder = home / "reconstruct"
    (folder / "data").mkdir(parents=True)
    shutil.copy(home / "study" / "data" / "scan.h5", folder / "data" / "scan.h5")
    scan = open_projections(folder / "data" / "scan.h5")
    settings = ReconstructConfig.create(centre=CENTRE, threads=1)
    scanning._GROUP_CPU = 2
    out = folder / "volume.ome.tif"
    stopped(lambda stop: reconstruct_steps(scan, settings, out=out, should_stop=stop))


def write_bundle(home: Path) -> None:
    """The final folder of the supervised job."""
    copy = home / "copy"
    shutil.copytree(home / "supervised", copy)
    command("jobs", "resume", str(copy))
    model = next((copy / "result").iterdir())
    shutil.copytree(model if model.is_dir() else copy / "result", home / "bundle")
    shutil.rmtree(copy)


def write_expected(home: Path) -> dict[str, Any]:
    """Results of the release that wrote the folders, from copies of them."""
    copies = home / "copies"
    found: dict[str, Any] = {}
    for name in JOBS:
        shutil.copytree(home / name, copies / name)
        command("jobs", "resume", str(copies / name))
        found[name] = job_figures(copies / name)
    for name, words in LEFT.items():
        shutil.copytree(home / name, copies / name)
        out = left_command(copies / name, home / "bundle", words)
        found[name] = figures_of_volume(out)
    shutil.rmtree(copies)
    return found


def left_command(folder: Path, bundle: Path, words: tuple[str, ...]) -> Path:
    """Resume what a command left in `folder`."""
    given = [w.format(folder=folder, bundle=bundle) for w in words]
    command(*given, "--continue", "--threads", "1")
    return Path(given[given.index("--out") + 1])


def main() -> None:
    """Write everything and pack it."""
    out = Path(sys.argv[1]).resolve()
    home = Path(tempfile.mkdtemp(prefix="golden-"))
    os.environ["XDG_STATE_HOME"] = str(home / "state")
    (home / "volumes").mkdir()
    write_volumes(home / "volumes")
    write_jobs(home)
    write_bundle(home)
    write_left(home)
    for name in ("state", "scan", "volumes"):
        shutil.rmtree(home / name, ignore_errors=True)
    expected = write_expected(home)
    (home / "expected.json").write_text(json.dumps(expected, indent=1))
    shutil.make_archive(str(out).removesuffix(".tar.xz"), "xztar", home)
    print(out, out.stat().st_size)


if __name__ == "__main__":
    main()
