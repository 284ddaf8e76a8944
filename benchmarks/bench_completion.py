"""Completion of skulls: `skull-complete` and a dense U-Net on a grid of 64³ voxels.

Run ``python benchmarks/bench_completion.py train --folder F --steps N`` to train the
U-Net on the skulls from which `skull-complete` was built, then
``python benchmarks/bench_completion.py compare --edge 256 --dense F/dense_N.pt`` to
complete the same unseen skulls with both. An interrupted training run is resumed.
``whole`` counts what `skull-complete` adds to complete skulls, and to the same skulls
with a missing part; ``turned`` completes skulls that are rotated by half a turn
about Z. ``whole`` and ``turned`` take ``--edge 128 --number 40``. ``grids --edge 144``
completes skulls on tilted axes and in thick slices; ``largest --edge 64`` completes
skulls with the largest missing parts of each kind, and counts the warnings.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    interpolate,
    max_pool3d,
)

Mask = npt.NDArray[np.bool_]

#: Edge of the grid of the U-Net, in voxels.
_GRID = 64
#: Fine voxels along the edge of one voxel of this grid, for the training shapes.
_FINER = 2
#: Number of skulls from which `skull-complete` was built.
_SKULLS = 150
#: Number of feature maps of the U-Net, from 64³ to 4³ voxels.
_CHANNELS = (8, 16, 24, 24, 32)
#: Initial learning rate of Adam, followed by a cosine decay to zero.
_RATE = 2e-3
#: Steps between two checkpoints.
_CHECKPOINT = 100
#: Decay of the moving average of the weights; the averaged weights are evaluated.
_AVERAGING = 0.99
#: First seed of the skulls for the comparison, from which no model was built.
_SEED = 100
#: Volume of a completed part, in % of the given shape, below which a warning is given.
_FEW_PER_CENT = 1.0
#: Size of the largest missing parts, as a fraction of half the edge of the box.
_LARGEST = 0.4
#: Width of the box, in mm.
_BOX = 200.0
#: Tilts about X in degrees, each with thicknesses of the slices in pixels.
_GRIDS = {0: (1, 2, 3, 4), 15: (1,), 30: (1, 2)}


class DenseUNet(nn.Module):
    """A plain 3D U-Net: two convolutions per level, maximum pooling, skips."""

    def __init__(self) -> None:
        super().__init__()
        widths = _CHANNELS
        self.down = nn.ModuleList(
            _level(a, b) for a, b in zip((1, *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            _level(a + b, a) for a, b in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.last = nn.Conv3d(widths[0], 1, 1)
        # Start at a low probability, because few voxels are missing.
        nn.init.constant_(self.last.bias, -4.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the missing part from fractions of shapes (N, 1, Z, Y, X)."""
        kept = []
        for i, level in enumerate(self.down):
            x = level(max_pool3d(x, 2) if i else x)
            kept.append(x)
        for level, skip in zip(self.up, kept[-2::-1], strict=True):
            x = level(torch.cat([skip, interpolate(x, scale_factor=2)], 1))
        found: torch.Tensor = self.last(x)
        return found


def _level(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [
            nn.Conv3d(width, after, 3, padding=1, bias=False),
            nn.GroupNorm(4, after),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def _fractions(inside: Mask, factor: int) -> torch.Tensor:
    """Fraction of each coarse voxel that is inside the shape: (1, 1, Z, Y, X)."""
    values = inside.reshape((len(inside) // factor, factor) * 3).mean((1, 3, 5))
    return torch.from_numpy(values.astype(np.float32))[None, None]


def _training_skulls(kept: Path) -> list[Mask]:
    """The complete skulls from which `skull-complete` was built, cached in a file."""
    from napari_geosr.learning.shapes.data import random_solid
    from napari_geosr.physics.shapes import sampled

    if kept.exists():
        return list(np.load(kept)["skulls"])
    found = []
    for i in range(_SKULLS):
        _, solid = random_solid(np.random.default_rng([0, 4, i]), "skulls")
        found.append(sampled(solid, (_GRID * _FINER,) * 3))
    np.savez_compressed(kept, skulls=np.array(found))
    return found


def _sample(skulls: list[Mask], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one skull with a random defect: the remaining part, and the missing part.

    Defects are drawn as in `simulate skulls`; half of the skulls are mirrored.
    """
    from napari_geosr.physics.shapes import (
        DEFECTS,
        defect,
        sampled,
        vault_direction,
    )

    rng = np.random.default_rng([step, 64])
    complete = skulls[int(rng.integers(len(skulls)))]
    kind = DEFECTS[int(rng.integers(len(DEFECTS)))]
    size = rng.uniform(0.15, 0.4)
    solid = defect(rng, kind, 0.72 * vault_direction(rng), size)
    hole = sampled(solid, complete.shape)
    if rng.random() < 0.5:
        complete, hole = complete[..., ::-1], hole[..., ::-1]
    return (
        _fractions(complete & ~hole, _FINER),
        _fractions(complete & hole, _FINER),
    )


def _loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sum of cross-entropy and soft Dice loss."""
    found = logits.sigmoid()
    overlap = (2 * (found * target).sum() + 1) / (found.sum() + target.sum() + 1)
    return binary_cross_entropy_with_logits(logits, target) * 10 + 1 - overlap


def train(folder: Path, steps: int) -> None:
    """Train the U-Net on one thread; resume from ``F/state.pt``."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    network = DenseUNet()
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_AVERAGING)
    )
    optimiser = torch.optim.Adam(network.parameters(), _RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    parts: dict[str, Any] = {
        "network": network,
        "average": average,
        "optimiser": optimiser,
        "schedule": schedule,
    }
    done, before = 0, 0.0
    if (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        done, before = state["done"], state["seconds"]
    print(f"{sum(p.numel() for p in network.parameters()):,} parameters", flush=True)
    skulls, losses = _training_skulls(folder / "skulls.npz"), []
    for step in range(done, steps):
        source, target = _sample(skulls, step)
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast
            logits = network(source)
        loss = _loss(logits.float(), target)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        losses.append(float(loss.detach()))
        if (step + 1) % _CHECKPOINT == 0 or step + 1 == steps:
            seconds = before + time.process_time()
            state = {name: part.state_dict() for name, part in parts.items()}
            state |= {"done": step + 1, "seconds": seconds}
            torch.save(state, folder / "state.part")
            (folder / "state.part").rename(folder / "state.pt")
            kept = {"weights": average.module.state_dict(), "seconds": seconds}
            torch.save(kept, folder / f"dense_{step + 1}.pt")
            line = f"{step + 1}/{steps} loss {np.mean(losses):.4f}"
            print(f"{line}, {seconds:.0f} s of CPU time", flush=True)
            losses = []


def _dense_part(network: DenseUNet, incomplete: Mask) -> Mask:
    """Predict the missing part with the U-Net, interpolated to the grid of the shape.

    The predicted fractions are added to those of the given shape before interpolation,
    which leaves no gap between the two; only voxels near the prediction are kept.
    """
    from napari_geosr.operations.shapes.parts import large_pieces

    given = _fractions(incomplete, len(incomplete) // _GRID)
    with torch.inference_mode():
        part = network(given).sigmoid()
    fine = interpolate(given + part, incomplete.shape, mode="trilinear") > 0.5
    near = max_pool3d((part > 0.5).float(), 3, stride=1, padding=1)
    close = interpolate(near, incomplete.shape) > 0
    return large_pieces((fine & close)[0, 0].numpy() & ~incomplete, 0.1)[0]


def _interpolated(complete: Mask, mode: str) -> Mask:
    """Reduce a complete shape to 64³ voxels, and interpolate it back."""
    from napari_geosr.physics.shapes import coarsened

    coarse = torch.from_numpy(coarsened(complete, len(complete) // _GRID))
    fine = interpolate(coarse[None, None].float(), complete.shape, mode=mode)
    return fine[0, 0].numpy() > 0.5


def _parts(made: Any, near: Mask, network: DenseUNet | None) -> dict[str, Any]:
    """Return the missing part by each method, and its CPU time in seconds."""
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.operations.shapes.complete import complete_mask_steps
    from napari_geosr.operations.shapes.config import CompleteShapeConfig

    began = time.process_time()
    found = run_to_end(complete_mask_steps(made.incomplete, CompleteShapeConfig()))
    parts = {"skull-complete": (found.implant, time.process_time() - began)}
    if network is not None:
        began = time.process_time()
        part = _dense_part(network, made.incomplete)
        parts["dense U-Net, 64³"] = (part, time.process_time() - began)
    for mode in ("nearest", "trilinear"):
        part = _interpolated(made.complete, mode) & near & ~made.incomplete
        parts[f"perfect 64³, {mode}"] = (part, np.nan)
    return parts


def compare(edge: int, number: int, dense: Path | None) -> None:
    """Complete skulls from which no model was built.

    The *perfect* rows are a limit for all networks on a grid of 64³ voxels: the true
    skull, reduced to this grid and interpolated again. Only the surroundings of the
    missing part are evaluated for them.

    The columns: Dice coefficient and HD95 (mm) of the missing part; voxels added
    outside it, in % of the given ones; CPU time. No method removes voxels.
    """
    from scipy.ndimage import binary_dilation

    from napari_geosr.learning.shapes.shape_completion import bounding_box
    from napari_geosr.measure.shapes import compare_shapes, dice
    from napari_geosr.operations.shapes.simulation import simulated_skull

    torch.set_num_threads(1)
    network, size = None, (_BOX / edge,) * 3
    if dense is not None:
        kept = torch.load(dense)
        network = DenseUNet().eval()
        network.load_state_dict(kept["weights"])
        print(f"dense U-Net: {kept['seconds']:.0f} s of CPU time for training")
    rows: dict[str, list[list[float]]] = {}
    for seed in range(_SEED, _SEED + number):
        made = simulated_skull(seed, edge)
        truth = made.complete & ~made.incomplete
        near = binary_dilation(truth, iterations=max(1, 6 * edge // 256))
        for name, (part, seconds) in _parts(made, near, network).items():
            assert not (part & made.incomplete).any()
            distance = float("inf")
            if part.any():
                box = bounding_box(part | truth)
                found = compare_shapes(part[box], truth[box], size, "mm")
                distance = found.hausdorff_95
            away = 100 * np.count_nonzero(part & ~near) / made.incomplete.sum()
            row = [dice(part, truth), distance, away, seconds]
            rows.setdefault(name, []).append(row)
            line = "  ".join(f"{value:6.3f}" for value in row)
            print(f"{seed} {made.defect:10} {name:22} {line}", flush=True)
    _print_summary(rows)


def _completed(given: Mask) -> Mask:
    """The part that `skull-complete` adds."""
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.operations.shapes.complete import complete_mask_steps
    from napari_geosr.operations.shapes.config import CompleteShapeConfig

    config = CompleteShapeConfig(threads=1)
    part: Mask = run_to_end(complete_mask_steps(given, config)).implant
    return part


def whole(edge: int, number: int) -> None:
    """Complete skulls without a missing part, and the same skulls with one.

    The columns: volume of the added part, in % of the given shape, without and with a
    missing part.
    """
    from napari_geosr.operations.shapes.simulation import simulated_skull

    rows = []
    for seed in range(_SEED, _SEED + number):
        made = simulated_skull(seed, edge)
        row = [
            100 * np.count_nonzero(_completed(given)) / np.count_nonzero(given)
            for given in (made.complete, made.incomplete)
        ]
        rows.append(row)
        print(f"{seed} {made.defect:10} {row[0]:6.2f} {row[1]:6.2f}", flush=True)
    without, with_part = np.array(rows).T
    added = without[without > 0]
    share = f" ({added.min():.2f} to {added.max():.2f} %)" if len(added) else ""
    print(
        f"{len(added)} of {number} complete skulls are completed{share}; in "
        f"{np.count_nonzero(added < _FEW_PER_CENT)} of them, and for "
        f"{np.count_nonzero((with_part > 0) & (with_part < _FEW_PER_CENT))} skulls "
        f"with a missing part, the part is below {_FEW_PER_CENT:g} %; for "
        f"{np.count_nonzero(with_part == 0)}, no part was found"
    )


def turned(edge: int, number: int) -> None:
    """Dice coefficient of the completed part, in both orientations about Z."""
    from napari_geosr.measure.shapes import dice
    from napari_geosr.operations.shapes.simulation import simulated_skull

    rows = []
    for seed in range(_SEED, _SEED + number):
        made = simulated_skull(seed, edge)
        row = []
        for step in (1, -1):
            given = np.ascontiguousarray(made.incomplete[:, ::step, ::step])
            missing = (made.complete & ~made.incomplete)[:, ::step, ::step]
            row.append(dice(_completed(given), missing))
        rows.append(row)
        print(f"{seed} {made.defect:10} {row[0]:6.3f} {row[1]:6.3f}", flush=True)
    for name, values in zip(("as built", "rotated"), np.array(rows).T, strict=True):
        low, middle, high = np.percentile(values, (0, 50, 100))
        print(f"{name}: median {middle:.2f}, {low:.2f} to {high:.2f}")


def _tilted_skull(
    seed: int, edge: int, degrees: float
) -> tuple[Mask, Mask, npt.NDArray[np.float64]]:
    """Return a complete skull on tilted axes, its missing part, and the rotation.

    X and Y point to the right and to the front; the skulls and the missing parts are
    those of the other parts of this benchmark.
    """
    from napari_geosr.physics.shapes import (
        DEFECTS,
        defect,
        sampled,
        skull,
        vault_direction,
    )

    rng = np.random.default_rng([seed, 20])
    whole = skull(rng)
    kind = DEFECTS[int(rng.integers(len(DEFECTS)))]
    size = rng.uniform(0.15, 0.4)
    hole = defect(rng, kind, 0.72 * vault_direction(rng), size)
    angle = np.radians(degrees)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    masks = []
    for solid in (whole, hole):

        def tilted(z: Any, y: Any, x: Any, solid: Any = solid) -> Any:
            if not s:
                return solid(z, -y, -x)
            return solid(s * y + c * z, s * z - c * y, -x)

        masks.append(sampled(tilted, (edge,) * 3))
    rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], float)
    return masks[0], masks[0] & masks[1], rotation


def grids(edge: int, number: int) -> None:
    """Dice coefficient on tilted axes and in thick slices.

    The columns: with the recorded rotation, and without it.
    """
    from napari_geosr.core.orientation import model_frame, orientation_entry
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.measure.shapes import dice
    from napari_geosr.operations.shapes.complete import complete_mask_steps
    from napari_geosr.operations.shapes.config import CompleteShapeConfig
    from napari_geosr.operations.shapes.parts import ShapePose

    config = CompleteShapeConfig(threads=1)
    rows: dict[tuple[int, int], list[list[float]]] = {}
    for seed in range(_SEED, _SEED + number):
        for degrees, thicknesses in _GRIDS.items():
            whole, missing, rotation = _tilted_skull(seed, edge, degrees)
            facts = orientation_entry("RAS", rotation.ravel().tolist())
            for thick in thicknesses:
                full, part = (
                    mask.reshape(-1, thick, edge, edge).mean(1) > 0.5
                    for mask in (whole, missing)
                )
                frame = model_frame(facts, (thick, 1.0, 1.0), turned=True)
                row = []
                for each in (frame, None) if degrees else (None,):
                    pose = ShapePose(turned=True, frame=each)
                    steps = complete_mask_steps(full & ~part, config, pose=pose)
                    row.append(dice(run_to_end(steps).implant, part))
                rows.setdefault((degrees, thick), []).append(row)
        print(seed, {key: np.round(values[-1], 3) for key, values in rows.items()})
    for (degrees, thick), values in rows.items():
        low, middle = np.percentile(values, (0, 50), axis=0)
        words = ", ".join(
            f"{b:.2f} (lowest {a:.2f})" for a, b in zip(low, middle, strict=True)
        )
        print(f"tilt {degrees:2}°, slices of {thick} pixels: median {words}")


def largest(edge: int, number: int) -> None:
    """Complete skulls with the largest missing parts of each kind.

    The columns: volume of the missing and of the completed part, in % of the given
    shape, their Dice coefficient, and the number of warnings.
    """
    from napari_geosr.core.steps import WarningIssued, run_to_end
    from napari_geosr.measure.shapes import dice
    from napari_geosr.operations.shapes.complete import complete_mask_steps
    from napari_geosr.operations.shapes.config import CompleteShapeConfig
    from napari_geosr.physics.shapes import (
        DEFECTS,
        defect,
        sampled,
        skull,
        vault_direction,
    )

    for kind in DEFECTS:
        rows = []
        for seed in range(_SEED, _SEED + number):
            rng = np.random.default_rng([seed, 20])
            complete = sampled(skull(rng), (edge,) * 3)
            solid = defect(rng, kind, 0.72 * vault_direction(rng), _LARGEST)
            given = complete & ~sampled(solid, (edge,) * 3)
            steps = []
            config = CompleteShapeConfig(threads=1)
            made = run_to_end(complete_mask_steps(given, config), steps.append)
            missing, n = complete & ~given, np.count_nonzero(given)
            rows.append(
                (
                    100 * np.count_nonzero(missing) / n,
                    100 * np.count_nonzero(made.implant) / n,
                    dice(made.implant, missing),
                    sum(isinstance(step, WarningIssued) for step in steps),
                )
            )
        values = np.array(rows)
        print(
            f"{kind:10} missing up to {values[:, 0].max():.1f} %, completed up to "
            f"{values[:, 1].max():.1f} %, Dice {np.median(values[:, 2]):.2f} "
            f"({values[:, 2].min():.2f} to {values[:, 2].max():.2f}), "
            f"{int(values[:, 3].sum())} warnings",
            flush=True,
        )


def _print_summary(rows: dict[str, list[list[float]]]) -> None:
    """Median and quartiles of each method; paired comparison with the first one."""
    first = np.asarray(next(iter(rows.values())))
    for name, values in rows.items():
        table = np.asarray(values)
        low, middle, high = np.percentile(table[:, 0], (25, 50, 75))
        mean, spread = table[:, 0].mean(), table[:, 0].std(ddof=1)
        print(
            f"{name:22} Dice {middle:.3f} ({low:.3f} … {high:.3f}), mean {mean:.3f} "
            f"± {spread:.3f}, lowest {table[:, 0].min():.3f}; HD95 "
            f"{np.median(table[:, 1]):.2f} mm; away from the missing part "
            f"{np.median(table[:, 2]):.3f} %, at most {table[:, 2].max():.3f} %; "
            f"{table[:, 3].mean():.1f} s; the first method is better for "
            f"{np.count_nonzero(first[:, 0] > table[:, 0])} of {len(table)}"
        )


def main() -> None:
    """Run the training or the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["train", "compare", "whole", "turned", "grids", "largest"]
    parser.add_argument("part", choices=parts)
    parser.add_argument("--folder", type=Path, help="checkpoints, for train")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--edge", type=int, default=256)
    parser.add_argument("--number", type=int, default=20, help="skulls to complete")
    parser.add_argument("--dense", type=Path, help="weights of the U-Net, for compare")
    given = parser.parse_args()
    if given.part == "train":
        train(given.folder, given.steps)
    elif given.part == "whole":
        whole(given.edge, given.number)
    elif given.part == "turned":
        turned(given.edge, given.number)
    elif given.part == "grids":
        grids(given.edge, given.number)
    elif given.part == "largest":
        largest(given.edge, given.number)
    else:
        compare(given.edge, given.number, given.dense)


if __name__ == "__main__":
    main()
