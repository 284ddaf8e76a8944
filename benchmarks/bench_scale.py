"""Volumes larger than the memory budget, and several processes on one volume.

A scan of 512 × 1024 × 1024 voxels (uint16, 1.1 GB) is super-resolved to 4.3 billion
voxels in an OME-Zarr, and the pores of the result are measured, each by the command
with a memory budget. "Peak" is the largest resident memory of the process, including
the program, its libraries and the model. Then a smaller scan is restored by one and by
two worker processes of one thread each, to compare their voxels and times. The plan
that ``--dry-run`` prints for 2000 × 2000 × 2000 voxels is compared with the
extrapolation of two runs, and tiles of a live layer are timed. The time from
``submit`` to the first tile is measured with SLURM: that of this computer if SLURM_CONF
is set, and otherwise a private one, which needs root access and the programs of
``apt-get install slurm-wlm munge``. Prints Markdown tables. The big scan needs 12 GB of
disk space and about ten minutes on two cores.

    python benchmarks/bench_scale.py [--planes 512] [--edge 1024] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import tifffile

GB = 10**9
#: Period of the structure of the scan in planes.
PERIOD = 64
#: Scan for the workers: number of planes and their edge.
SHARED = (384, 384)
#: Scan for the time to the first tile: number of planes and their edge.
QUEUED = (48, 384)
#: Attributes of `Run` that are compared.
FIELDS = ("processor", "seconds")
#: Numbers of planes of the scans from which the time of the planned scan is
#: extrapolated. The first run only fills the caches and is not used.
SAMPLES = (4, 4, 44)
#: Edge of the planned scan, and of its repeated chunk.
PLANNED, CHUNK = 2000, 250
#: Parts of the benchmark that do not need a queue.
CHOICES = ("large", "workers", "thickness", "plan", "live")
#: Scan for the previews: number of planes and their edge.
LIVE = (48, 1024)
#: Number of previewed planes per model.
LIVE_PLANES = 3
LIVE_MODELS = (
    "gaussian",
    "nlm",
    "tv",
    "ct-denoise",
    "foam-denoise",
    "cubic-x2",
    "foam-sr-x2",
    "foam-sr-x4",
    "bone-sr-x8",
)
#: The run that is planned for the large scan and timed on smaller ones.
RUN = ("-m", "foam-denoise", "--threads", 1, "--memory", "2GB")


@dataclass(frozen=True)
class Run:
    """A finished command.

    Attributes
    ----------
    seconds : float
        Wall-clock time.
    processor : float
        CPU time of all its processes.
    peak : int
        Largest resident memory of one process in bytes.
    """

    seconds: float
    processor: float
    peak: int


def run(*words: object) -> Run:
    """Run ``napari-geosr`` in a separate process."""
    command = [sys.executable, "-m", "napari_geosr", *map(str, words)]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(said.read().decode()[-2000:])
    return Run(
        time.perf_counter() - began,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss * 1024,
    )


def write_scan(path: Path, planes: int, edge: int) -> None:
    """Write a porous solid with noise, plane by plane."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    rough = rng.normal(size=(PERIOD, edge, edge)).astype(np.float32)
    solid = ndimage.gaussian_filter(rough, 3, mode="wrap") > 0.02

    def noisy(z: int) -> np.ndarray:
        noise = rng.normal(0, 2000, (edge, edge)).astype(np.float32)
        plane: np.ndarray = solid[z % PERIOD] * 20000 + 20000 + noise
        return plane.clip(0, 65535)

    tifffile.imwrite(
        path,
        (noisy(z).astype(np.uint16) for z in range(planes)),
        shape=(planes, edge, edge),
        dtype="uint16",
        bigtiff=True,
        photometric="minisblack",
        metadata={"axes": "ZYX", "PhysicalSizeX": 1.5, "PhysicalSizeY": 1.5},
    )


def large(folder: Path, planes: int, edge: int) -> None:
    """Print memory and time of a super-resolution and of its measurement."""
    scan, finer = folder / "scan.ome.tif", folder / "finer.ome.zarr"
    write_scan(scan, planes, edge)
    voxels = 8 * planes * edge**2
    upscaled = ("-m", "cubic-x2", "--output-dtype", "input", "-o", finer)
    rows = {
        "restore ×2 to OME-Zarr": (2.0, run("restore", scan, *upscaled, *memory(2.0))),
        "measure the result": (
            1.5,
            run("measure", finer, "-o", folder / "report", *memory(1.5)),
        ),
    }
    print(f"{voxels / 1e9:.1f} billion voxels, {2 * voxels / GB:.1f} GB in uint16\n")
    print("| run | budget | peak | CPU time |\n|---|---|---|---|")
    for name, (budget, done) in rows.items():
        print(
            f"| {name} | {budget:.1f} GB | {done.peak / GB:.2f} GB | "
            f"{done.processor:.0f} s |"
        )


def thickness(folder: Path, edge: int) -> None:
    """Print memory and time of the local thickness of both phases."""
    scan, report = folder / "cube.ome.tif", folder / "thickness"
    write_scan(scan, edge, edge)
    options = ("--statistics", "thickness", "--threshold", 30000, *memory(3.0))
    alone = run("measure", scan, "-o", folder / "porosity", *options[2:])
    done = run("measure", scan, "-o", report, *options)
    shared = run("measure", scan, "-o", folder / "shared", *options, "--workers", 2)
    values = json.loads((report / "report.json").read_text())
    print(f"\n{edge}³ voxels, {2 * edge**3 / GB:.1f} GB in uint16; without thickness ")
    print(f"{alone.seconds:.0f} s ({alone.peak / GB:.2f} GB).\n")
    print("| statistic | value |\n|---|---|")
    for name, found in values["morphometry"]["thickness"]["values"].items():
        print(f"| {name} | {found['value']:.2f} {found['unit']} |")
    print(f"| peak memory (budget 3 GB) | {done.peak / GB:.2f} GB |")
    print(f"| CPU time | {done.processor:.0f} s |")
    print(f"| time | {done.seconds:.0f} s |")
    print(f"| time with 2 workers | {shared.seconds:.0f} s |")


def memory(gigabytes: float) -> tuple[str, str]:
    """Return the command-line option for a memory budget."""
    return "--memory", f"{gigabytes * 1000:.0f}MB"


def voxels_of(path: Path) -> np.ndarray:
    """Return the voxels of an OME-Zarr."""
    import napari_geosr as geosr

    return np.asarray(geosr.read(path).data)


def workers(folder: Path, repeats: int) -> None:
    """Print CPU and wall-clock times of one and of two workers."""
    scan = folder / "shared.ome.tif"
    write_scan(scan, *SHARED)
    runs: dict[int, list[tuple[Run, float]]] = {1: [], 2: []}
    equal = 0
    for _ in range(repeats):
        results = []
        for n, found in runs.items():
            out = folder / f"shared-{n}.ome.zarr"
            options = ("--workers", n, "--threads", n, "--memory", f"{n}GB")
            shown = ("-m", "foam-denoise", "-o", out, "--overwrite")
            done = run("restore", scan, *shown, *options)
            found.append((done, inference_seconds(out)))
            results.append(voxels_of(out))
        equal += np.array_equal(*results)
    print("\n| workers | CPU time | whole command | inference |")
    print("|---|---|---|---|")
    for n, found in runs.items():
        cpu, wall = (min(getattr(r, a) for r, _ in found) for a in FIELDS)
        least = min(seconds for _, seconds in found)
        print(f"| {n} | {cpu:.1f} s | {wall:.1f} s | {least:.1f} s |")
    print(f"\nEqual voxels in {equal} of {repeats} runs.")


def inference_seconds(path: Path) -> float:
    """Return the wall-clock time of the inference, from the record of a result."""
    import napari_geosr as geosr

    record = geosr.read(path).provenance[-1]
    return float(record["run"]["seconds"])


def write_repeated(path: Path) -> None:
    """Write a zarr with all chunks linked to the same file."""
    import zarr

    edge = PLANNED // CHUNK
    array = zarr.create_array(
        path, shape=(PLANNED,) * 3, chunks=(CHUNK,) * 3, dtype="uint8"
    )
    rng = np.random.default_rng(0)
    voxels = rng.normal(100, 15, (CHUNK,) * 3)
    voxels[:, : CHUNK // 2] += 60
    array[:CHUNK, :CHUNK, :CHUNK] = voxels.clip(0, 255).astype(np.uint8)
    first = path / "c" / "0" / "0" / "0"
    for place in np.ndindex(edge, edge, edge):
        chunk = path.joinpath("c", *map(str, place))
        chunk.parent.mkdir(parents=True, exist_ok=True)
        if chunk != first:
            os.link(first, chunk)


def planned(scan: Path, *more: object) -> dict[str, float]:
    """Return the plan of a run, as ``--dry-run`` prints it."""
    words = [*RUN, *more, "--dry-run", "--json", "-o", scan.with_name("x.ome.zarr")]
    command = [sys.executable, "-m", "napari_geosr", "restore", scan, *words]
    done = subprocess.run(
        list(map(str, command)), check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def plan(folder: Path) -> None:
    """Print the plan for a large scan, and the extrapolation of two small runs."""
    scan = folder / "repeated.zarr"
    write_repeated(scan)
    found = planned(scan)
    import zarr

    whole = zarr.open_array(scan, mode="r")
    seconds, voxels = [], []
    for n in SAMPLES:
        part = folder / f"part-{n}.tif"
        # Rows as long as those of the large scan, so that tiles and halos are similar.
        tifffile.imwrite(part, np.asarray(whole[:n, : 2 * CHUNK, :]))
        out = folder / f"part-{n}.ome.zarr"
        seconds.append(run("restore", part, *RUN, "-o", out, "--overwrite").processor)
        voxels.append(n * 2 * CHUNK * PLANNED)
    rate = (seconds[-1] - seconds[-2]) / (voxels[-1] - voxels[-2])
    measured = seconds[-1] + rate * (PLANNED**3 - voxels[-1])
    print(f"\nPlan for {PLANNED}³ voxels: {found['seconds'] / 3600:.1f} h, ")
    print(f"{found['parts']:.0f} tiles, reads {found['bytes_read'] / GB:.0f} GB, ")
    print(
        f"writes {found['bytes_written'] / GB:.0f} GB, {found['memory'] / GB:.2f} GB;"
    )
    print(f"extrapolated from CPU time: {measured / 3600:.1f} h")
    print(f"({found['seconds'] / measured:.2f} ×); runs: {json.dumps(seconds)} s")


def live(folder: Path) -> None:
    """Print the time of a tile of 512 × 512 voxels of a live layer."""
    from napari_geosr import read
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.operations.restore import RestoreConfig, prepare_steps
    from napari_geosr.operations.restore.live import EDGE, LiveTiles

    path = folder / "live.tif"
    write_scan(path, *LIVE)
    scan = read(path)
    print(
        "| model | first, from every 4th voxel (s) | restored (s) | slices |\n"
        "|---|---|---|---|"
    )
    for model in LIVE_MODELS:
        config = RestoreConfig(model=model, device="cpu", threads=1)
        tiles = LiveTiles(run_to_end(prepare_steps(scan, config)))
        first, whole = [], []
        # The first tile also measures the memory of the network.
        step = max(2, tiles.n_planes)
        for i in range(1 + LIVE_PLANES):
            plane = LIVE[0] // 2 + i * step
            tiles._seconds = np.inf  # as if no tile were timed yet
            tiles.levels[0][plane * tiles.factors[0], :EDGE, :EDGE]
            started = time.perf_counter()
            steps = tiles.steps()
            next(steps)
            first.append(time.perf_counter() - started)
            for _ in steps:
                pass
            whole.append(time.perf_counter() - started)
        print(
            f"| `{model}` | {np.median(first[1:]):.2f} | {np.median(whole[1:]):.2f} "
            f"| {tiles.n_planes * tiles.factors[0]} |",
            flush=True,
        )


def queue(folder: Path) -> None:
    """Print the time from ``submit`` to the first tile, with SLURM."""
    if "SLURM_CONF" in os.environ:
        from_submit_to_tile(folder)
        return
    sys.path.append(str(Path(__file__).parents[1] / "tests" / "queues"))
    import slurm_cluster

    if reason := slurm_cluster.why_missing():
        sys.exit(f"The time in a queue was not measured: {reason}.")
    # Paths of sockets must be short.
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as place,
        slurm_cluster.slurm(Path(place)) as conf,
    ):
        os.environ["SLURM_CONF"] = str(conf)
        from_submit_to_tile(folder)


def from_submit_to_tile(folder: Path) -> None:
    """Print the time at which each step of a submitted job begins."""
    scan = folder / "queued.ome.tif"
    write_scan(scan, *QUEUED)
    out = folder / "queued.ome.zarr"
    began = time.time()
    submitted = run("submit", "restore", scan, "-o", out, *RUN, "--queue", "slurm")
    job = folder / "queued.job"
    rows = {"`submit` has returned": time.time()}
    while not (events := _events(job)) or events[-1]["event"] != "progress":
        time.sleep(0.1)
    state = json.loads((job / "job.json").read_text())
    rows["the process of the job starts"] = state["started"]
    for event in events:
        if event["event"] == "stage":
            rows[str(event["message"])] = event["time"]
    rows["the first tile is finished"] = events[-1]["time"]
    print("\n| after the start of `submit` | time |\n|---|---|")
    for name, moment in sorted(rows.items(), key=lambda row: row[1]):
        print(f"| {name} | {moment - began:.1f} s |")
    print(f"\nCPU time of `submit`: {submitted.processor:.1f} s; load: ", end="")
    print(f"{os.getloadavg()[0]:.0f}")
    run("jobs", "stop", job)
    # The same job without a queue: CPU times depend less on other programs.
    code = "import sys, bench_scale; bench_scale.processor_times(sys.argv[1])"
    here = Path(__file__).parent
    subprocess.run([sys.executable, "-c", code, str(job)], cwd=here, check=True)


def processor_times(job: str) -> None:
    """Run a job up to its first tile, and print the CPU time of its steps."""
    from napari_geosr.core.steps import StageStarted, TileDone
    from napari_geosr.jobs.folder import JobFolder
    from napari_geosr.jobs.run import run_steps
    from napari_geosr.operations.restore.measurements import FILE

    (Path(job) / FILE).unlink()  # measured by the run in the queue
    print("\n| step of the job | CPU time so far |\n|---|---|")
    done: list[Any] = []
    for step in run_steps(JobFolder(job), should_stop=lambda: bool(done)):
        if isinstance(step, TileDone):
            done.append(step)
        if isinstance(step, StageStarted | TileDone):
            name = step.message if isinstance(step, StageStarted) else "a tile is done"
            print(f"| {name} | {time.process_time():.1f} s |", flush=True)


def _events(job: Path) -> list[dict[str, Any]]:
    """Return the events of a job up to its first progress event."""
    path = job / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    events = [json.loads(line) for line in lines]
    kinds = [event["event"] for event in events]
    return events[: kinds.index("progress") + 1] if "progress" in kinds else events


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=int, default=512)
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="folder with 12 GB of free space")
    parser.add_argument("--only", choices=[*CHOICES, "queue"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        chosen = options.only
        if chosen in (None, "large"):
            large(Path(name), options.planes, options.edge)
        if chosen in (None, "workers"):
            workers(Path(name), options.repeats)
        if chosen in (None, "thickness"):
            thickness(Path(name), options.edge)
        if chosen in (None, "plan"):
            plan(Path(name))
        if chosen in (None, "live"):
            live(Path(name))
        if chosen == "queue" or (chosen is None and which("sbatch")):
            queue(Path(name))


if __name__ == "__main__":
    main()
