"""Evaluate the weights of ``train_denoisers.py`` on the test sets, and bundle them.

    python scripts/train_denoisers.py ct-denoise --out build/ct-denoise
    python scripts/bundle_denoiser.py ct-denoise --work build/ct-denoise

The texts come from ``scripts/pretraining/texts/NAME.yaml``, the evaluation from the
test sets of ``scripts/pretraining/testsets.py``, and the reference for comparing later
scans from noisy training scenes.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import train_denoisers
from napari_geosr import __version__
from napari_geosr.core.provenance import array_checksum
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise
from napari_geosr.models import bundle, zoo
from napari_geosr.models.card import FigureRow, ModelCard, TrainingData
from napari_geosr.models.distribution import draw_sample, signature
from napari_geosr.networks import build_network, set_network_noise
from pretraining import judging, reference
from pretraining.testsets import SETS, TEST_SEEDS

TEXTS = Path(__file__).parent / "pretraining" / "texts"
#: Number of reference scenes, and of other scenes for choosing the accepted distance.
_EXAMPLES, _OTHERS = 128, 96


def training_data(name: str, folder: Path, **said: Any) -> TrainingData:
    """Return the percentiles and spectra of noisy scenes drawn as in training."""
    world = train_denoisers.WORLDS[name][0]
    scenes = train_denoisers.make_scenes(name, folder)
    rng = np.random.default_rng([world.seed, 1 << 21])
    found = []
    for number in range(_EXAMPLES + _OTHERS):
        scene = scenes[number % len(scenes)].astype(np.float32)
        noise = train_denoisers.random_noise(scene.shape, rng)
        level = np.exp(rng.uniform(*np.log(train_denoisers.LEVELS)))
        noisy = scene + np.float32(level) * noise
        made = signature(draw_sample(Volume(noisy, "ZYX")))
        if made is not None:
            found.append(made)
    seeds = tuple(sorted({each.seed for each in train_denoisers.WORLDS[name]}))
    return reference.compared(found[:_EXAMPLES], found[_EXAMPLES:], seeds, **said)


def draft(name: str, work: Path, texts: dict[str, Any]) -> tuple[ModelCard, Any]:
    """Return the card without evaluation, and the network with its weights."""
    network = build_network("noise_bounded", **train_denoisers.NETWORK).eval()
    state = torch.load(work / "weights.pt", weights_only=True)
    network.load_state_dict(state)
    said = texts.pop("training")
    card = ModelCard(
        name=name,
        task="denoise",
        method="supervised",
        network="noise_bounded",
        network_kwargs=network.config.model_dump(mode="json"),
        axes="YX",
        adjacent_slices=train_denoisers.PLANES,
        halo=max(network.spec.halo),
        noise_bound=network.config.bound,
        training=training_data(name, work, **said),
        licence="BSD-3-Clause",
        weights_sha256="0" * 64,
        n_parameters=sum(p.numel() for p in network.parameters()),
        mixed_precision_error=_mixed_precision_error(name, network),
        provenance={
            "command": f"python scripts/train_denoisers.py {name}",
            "recipe": "train.yaml",
            "first_scene": array_checksum(train_denoisers.first_scene(name)),
            "napari_geosr": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "baselines": "settings tuned per test set on a scan with known ground "
            "truth",
            "test_data": f"simulated, {len(TEST_SEEDS)} scans per set, none used in "
            "training",
        },
        **texts,
    )
    return card, network


def _mixed_precision_error(name: str, network: Any) -> float:
    """Largest change in bfloat16 in the middle of scans, in standard deviations."""
    worst = 0.0
    for test in SETS[name]:
        noisy = test.scan(TEST_SEEDS[0]).noisy
        noise = estimate_noise(Volume(noisy, "ZYX"))
        mean, std = float(noisy.mean()), float(noisy.std())
        set_network_noise(network, noise.standardised(mean, std))
        first = max(0, len(noisy) // 2 - train_denoisers.PLANES // 2)
        planes = ((noisy - mean) / std)[first : first + train_denoisers.PLANES]
        if len(planes) < train_denoisers.PLANES:
            planes = np.repeat(planes[:1], train_denoisers.PLANES, axis=0)
        given = torch.from_numpy(planes.astype(np.float32))[None]
        with torch.no_grad():
            exact = network(given)
            with torch.autocast("cpu", torch.bfloat16):
                reduced = network(given).float()
        worst = max(worst, float((reduced - exact).abs().max() / exact.std()))
    return round(worst, 4)


def figures(name: str, path: str) -> tuple[FigureRow, ...]:
    """Return the results of the model, the input and the tuned classical methods.

    Those of the classical methods depend only on the test sets; they are taken from
    the card of the replaced model.
    """
    known = {
        (row.test_set, row.method): row
        for row in bundle.read_card(zoo.bundled_folder() / name).figures
    }
    rows: list[FigureRow] = []
    for test in SETS[name]:
        scans = [test.scan(seed) for seed in TEST_SEEDS]
        judged = judging.judged(test, scans, path)
        new = FigureRow(
            test_set=test.name,
            method=judging.MODEL,
            **judging.mean(judged["scans"]),
        )
        old = known[test.name, judging.MODEL]
        print(f"{test.name}: {old.psnr} -> {new.psnr} dB", flush=True)
        rows += [
            new if method == judging.MODEL else row
            for (of, method), row in known.items()
            if of == test.name
        ]
    return tuple(rows)


def main() -> None:
    """Evaluate and bundle the named model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=sorted(train_denoisers.WORLDS))
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="default: the package's own folder")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    name, work = arguments.model, arguments.work
    texts = yaml.safe_load((TEXTS / f"{name}.yaml").read_text(encoding="utf-8"))
    card, network = draft(name, work, texts)
    bundle.save(work / "bundle" / name, card, network, half=True)
    out = arguments.out or zoo.bundled_folder() / name
    path = str(work / "bundle" / name)
    card = card.model_copy(update={"figures": figures(name, path)})
    out.mkdir(parents=True, exist_ok=True)
    for path in out.glob("*.yaml"):  # recipes of the replaced model
        path.unlink()
    steps = [int(n) for n in (work / "steps.txt").read_text().split()]
    recipe = yaml.safe_dump(train_denoisers.recipe(name, steps), sort_keys=False)
    (out / "train.yaml").write_text(recipe, encoding="utf-8")
    bundle.save(out, card, network, half=True)
    bundle.verify(out)
    print(f"{card.n_parameters} parameters in {out}")


if __name__ == "__main__":
    main()
