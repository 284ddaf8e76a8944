"""Compare Noise2Void with the implementation of CAREamics.

Both programs use the same scan, network size, steps, batch, patch and learning rate.
They train on the slices of one simulated specimen with independent noise and restore
another of the same kind. napari-geosr runs in this process, CAREamics in a separate
environment, because its installation replaces torch:

    python -m venv careamics
    careamics/bin/pip install "careamics>=0.3" --extra-index-url \
        https://download.pytorch.org/whl/cpu
    python benchmarks/bench_careamics_n2v.py --careamics-python careamics/bin/python

The exit code is 1 if a row is more than 0.2 dB below that of CAREamics.
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
from typing import Any

import numpy as np
import torch

from _document import replace_section
from _specimens import PHANTOMS, TEST_SEED, TRAIN_SEED, Specimen, figures, specimen
from napari_geosr import io, restore
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.models.bundle import read_card
from napari_geosr.operations.train import TrainJob, config_class, train_steps

_PEER = Path(__file__).with_name("_careamics_peer.py")
#: Number of feature maps in the first level of U-Nets with two levels and about as many
#: parameters: CAREamics doubles the maps within a level in the decoder.
_FEATURES = {"ours": 26, "CAREamics": 32}
_ALLOWED = 0.2


@dataclass(frozen=True)
class Setting:
    """Settings of a comparison."""

    label: str
    masked: float
    n2v2: bool = False


SETTINGS = (
    Setting("Noise2Void, 0.2 % masked", 0.2),
    Setting("Noise2Void, 1.6 % masked", 1.6),
    Setting("N2V2, 1.6 % masked", 1.6, n2v2=True),
)


def ours(
    setting: Setting, train: Specimen, test: Specimen, common: dict[str, Any]
) -> dict[str, Any]:
    """Train and restore as a user would, with the default schedule and averaging."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        io.write(Volume(train.first, "ZYX"), folder / "scan.tif")
        config = config_class("noise2void").create(
            source=[folder / "scan.tif"],
            dimensions="2D",
            network="unet",
            layers=2,
            width=_FEATURES["ours"],
            network_options={"top_skip": not setting.n2v2},
            replacement="median" if setting.n2v2 else "uniform",
            masked=setting.masked,
            name="m",
            device="cpu",
            precision="float32",
            threads=1,
            **common,
        )
        job = TrainJob(method="noise2void", training=config)
        began = time.process_time()
        bundle = run_to_end(train_steps(job, folder / "job"))
        seconds = time.process_time() - began
        began = time.process_time()
        volume = restore(Volume(test.first, "ZYX"), str(bundle), threads=1).data
        return {
            **figures(np.asarray(volume), test),
            "parameters": read_card(bundle).n_parameters,
            "seconds": seconds,
            "seconds_per_volume": time.process_time() - began,
        }


def theirs(
    setting: Setting,
    train: Specimen,
    test: Specimen,
    common: dict[str, Any],
    python: Path,
) -> dict[str, Any]:
    """Do the same with CAREamics, in a process of its environment."""
    settings = common | {
        "features": _FEATURES["CAREamics"],
        "masked": setting.masked,
        "n2v2": setting.n2v2,
    }
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder) / "given.npz", Path(folder) / "result.npz"
        np.savez(
            given, train=train.first, test=test.first, settings=json.dumps(settings)
        )
        subprocess.run(
            [str(python), "-W", "ignore", str(_PEER), str(given), str(result)],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        found = np.load(result)
        if int(found["steps"]) != common["steps"]:
            raise SystemExit(f"CAREamics made {found['steps']} steps.")
        return {
            **figures(found["volume"], test),
            **{
                key: found[key].item()
                for key in ("parameters", "seconds", "seconds_per_volume", "version")
            },
        }


def table(rows: list[dict[str, Any]], common: dict[str, Any]) -> str:
    """Return the results as Markdown text, with the difference of each pair."""
    version = next((r["version"] for r in rows if "version" in r), "not run")
    lines = [
        f"CAREamics {version}; napari-geosr with torch {torch.__version__}. Both "
        f"programs trained for {common['steps']} steps of {common['batch_size']} "
        f"patches of {common['patch']}² with Adam (initial learning rate "
        f"{common['learning_rate']:g}), on single slices (2D) and one thread. Times "
        "are CPU times.",
        "",
        "| | PSNR (dB) | SSIM | porosity error | Dice | parameters | training (s) | "
        "restoring (s) | ours − CAREamics |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        pair = {r["who"]: r for r in rows if r["method"] == row["method"]}
        both = row["who"] == "ours" and len(pair) == 2
        gain = pair["ours"]["psnr"] - pair["CAREamics"]["psnr"] if both else None
        cells = [
            f"{row['method']}, {row['who']}",
            f"{row['psnr']:.2f}",
            f"{row['ssim']:.3f}",
            f"{row['porosity_error']:+.1%}",
            f"{row['dice']:.3f}",
            f"{row['parameters']:,}",
            f"{row['seconds']:.0f}",
            f"{row['seconds_per_volume']:.1f}",
            "" if gain is None else f"{gain:+.2f} dB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run missing rows, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--careamics-python", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--phantom", choices=PHANTOMS, default="foam")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="run only settings with this text in the label")
    parser.add_argument("--work", type=Path, default=Path("build/methods"))
    parser.add_argument("--out", type=Path, help="document to write the table into")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    common = {
        "steps": arguments.steps,
        "batch_size": 8,
        "patch": 64,
        "learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
    }
    arguments.work.mkdir(parents=True, exist_ok=True)
    kept = arguments.work / "careamics-{}-{steps}-{learning_rate:g}-{seed}.json".format(
        arguments.phantom, **common
    )
    rows = json.loads(kept.read_text()) if kept.exists() else []
    train, test = (
        specimen(arguments.phantom, "independent", s) for s in (TRAIN_SEED, TEST_SEED)
    )
    for setting in SETTINGS:
        if arguments.only and arguments.only not in setting.label:
            continue
        for who in ("ours", "CAREamics"):
            if any((r["method"], r["who"]) == (setting.label, who) for r in rows):
                continue
            if who == "ours":
                row = ours(setting, train, test, common)
            elif arguments.careamics_python:
                python = arguments.careamics_python
                row = theirs(setting, train, test, common, python)
            else:
                print("CAREamics is skipped, because --careamics-python is not given.")
                continue
            rows.append({"method": setting.label, "who": who, **row})
            kept.write_text(json.dumps(rows, indent=1))
            print(f"{setting.label}, {who}: {row['psnr']:.2f} dB", flush=True)
    order = {s.label: i for i, s in enumerate(SETTINGS)}
    rows.sort(key=lambda r: (order[r["method"]], r["who"] != "ours"))
    text = table(rows, common)
    if arguments.out:
        replace_section(arguments.out, "careamics", text)
    else:
        print(text)
    by_who = {(r["method"], r["who"]): r["psnr"] for r in rows}
    short = [
        s.label
        for s in SETTINGS
        if by_who.get((s.label, "CAREamics"), -np.inf) - _ALLOWED
        > by_who.get((s.label, "ours"), np.inf)
    ]
    for label in short:
        print(f"FAIL  {label}: more than {_ALLOWED} dB below CAREamics")
    return 1 if short else 0


if __name__ == "__main__":
    sys.exit(main())
