"""The changes made by ``mutate.py``, and the tests that should detect them.

A change identifies code by its text, which must occur in the file exactly once. If a
line is rewritten, update `old` and `new`; if a file is moved, the text is searched for
in all of ``src``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One change.

    Attributes
    ----------
    name : str
        Name for ``--only``.
    file : str
        File, relative to ``src/napari_geosr``.
    old, new : str
        Original text, and its replacement.
    why : str
        What would be wrong for a user.
    tests : tuple of str
        Test files that should detect the change, relative to the root.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]


_TILES = ("tests/inference/test_tiling.py", "tests/inference/test_exactness.py")
_ODD = ("tests/inference/test_missing_voxels.py", "tests/inference/test_runner.py")
_RUNNER = ("tests/inference/test_runner.py",)
_MEMORY = ("tests/inference/test_memory.py",)
_SHORT_OF_MEMORY = ("tests/faults/test_out_of_memory.py",)
_PORES = ("tests/measure/test_porosity.py", "tests/measure/test_report.py")
_SHIFT = ("tests/measure/reliability/test_threshold_shift.py",)
_INTERVAL = ("tests/measure/test_interval.py",)
_FBP = ("tests/tomography/test_filtered.py",)
_FAN = ("tests/tomography/test_fan_weights.py",)
_TURN = ("tests/core/test_angles.py",)
_VOLUME = ("tests/core/test_volume.py",)
_TIFF = ("tests/io/test_tiff_metadata.py", "tests/io/test_round_trip.py")
_GRIDS = ("tests/registration/test_geometry.py",)
_SEARCH = ("tests/registration/test_search.py",)
_TRAINER = ("tests/learning/test_trainer.py",)
_RESUME = ("tests/learning/test_resume.py",)
_N2V = ("tests/learning/test_noise2void.py",)

MUTATIONS = (
    # Tiles and their halo
    Mutation(
        "halo-before",
        "inference/tiles/tiling.py",
        "a = max(0, start - halo)",
        "a = max(0, start - halo + 1)",
        "seams: a tile is read one voxel too short at its beginning",
        _TILES,
    ),
    Mutation(
        "halo-after",
        "inference/tiles/tiling.py",
        "b = min(end, _round_up(stop, stride) + halo)",
        "b = min(end, _round_up(stop, stride) + halo - 1)",
        "seams: a tile is read one voxel too short at its end",
        _TILES,
    ),
    Mutation(
        "halo-to-stride",
        "inference/tiles/tiling.py",
        "halo=_size(_round_up(h, s) for h, s in zip(halo, stride, strict=True))",
        "halo=_size(h // s * s for h, s in zip(halo, stride, strict=True))",
        "seams: the halo of a strided network is rounded down",
        _TILES,
    ),
    Mutation(
        "whole-or-nothing",
        "inference/tiles/tiling.py",
        "    if spec.local:\n",
        "    if True:\n",
        "a network that needs the whole volume is run tile by tile",
        (*_TILES, "tests/inference/test_runner.py"),
    ),
    Mutation(
        "least-window",
        "inference/tiles/tiling.py",
        "missing = max(0, layout.minimum[axis] - (b - a))",
        "missing = 0",
        "windows are smaller than the network accepts",
        _TILES,
    ),
    Mutation(
        "split-on-grid",
        "inference/tiles/tiling.py",
        "window = window_along(layout, axis, a // stride * stride, b)",
        "window = window_along(layout, axis, a, b)",
        "halves of a tile are off the grid of the stride",
        (*_TILES, *_SHORT_OF_MEMORY),
    ),
    Mutation(
        "split-longest",
        "inference/tiles/tiling.py",
        "key=lambda a: -lengths[a]",
        "key=lambda a: lengths[a]",
        "tiles are halved along their shortest edge, which saves little memory",
        (*_RUNNER, *_TILES),
    ),
    Mutation(
        "reflection",
        "inference/tiles/tiling.py",
        "period = 2 * (n - 1)",
        "period = 2 * n",
        "padding repeats the edge",
        _TILES,
    ),
    Mutation(
        "seen-first",
        "inference/tiles/tiling.py",
        "tiles.sort(key=lambda tile: not _intersect(tile.core, visible))",
        "tiles.sort(key=lambda tile: _intersect(tile.core, visible))",
        "the visible part is restored last",
        _TILES,
    ),
    Mutation(
        "place-of-a-region",
        "inference/tiles/tiling.py",
        "slice((c.start - o) * s, (c.stop - o) * s)",
        "slice((c.start - o) * s, (c.stop - o) * s - o)",
        "the tiles of a region are written to the wrong position",
        (*_TILES, *_RUNNER),
    ),
    Mutation(
        "span-of-padding",
        "inference/tiles/tiling.py",
        "stop = layout.padded[axis]",
        "stop = layout.shape[axis]",
        "the reported cost of a run is wrong",
        _TILES,
    ),
    # Masks and voxels without a finite value
    Mutation(
        "nonfinite-stands-for",
        "inference/windows.py",
        'value = self.statistics.mean if self.nonfinite == "mean" else 0.0',
        'value = self.statistics.mean if self.nonfinite != "mean" else 0.0',
        "the network sees zeros in place of missing voxels",
        _ODD,
    ),
    Mutation(
        "nonfinite-stays",
        "inference/run.py",
        "self.writer.blank(values, missing)",
        "pass",
        "missing voxels become invented grey values",
        _ODD,
    ),
    Mutation(
        "sample-and-finite",
        "measure/porosity_run.py",
        "sample = finite if sample is None else sample & finite",
        "sample = finite if sample is None else sample | finite",
        "voxels outside the mask count as sample",
        ("tests/measure/test_sample_mask.py", "tests/measure/test_odd_voxels.py"),
    ),
    Mutation(
        "pores-in-sample",
        "measure/porosity_run.py",
        "        if sample is not None:\n            pores &= sample\n        return",
        "        return",
        "air around the sample counts as pores",
        ("tests/measure/test_odd_voxels.py", *_PORES),
    ),
    Mutation(
        "nan-is-solid",
        "measure/sample/found.py",
        "solid &= np.isfinite(block)",
        "pass",
        "the automatic sample mask includes voxels that were not reconstructed",
        ("tests/measure/test_sample_mask.py",),
    ),
    # Porosity, its range and its interval
    Mutation(
        "five-percent",
        "measure/segment.py",
        "SENSITIVITY = 0.05",
        "SENSITIVITY = 0.06",
        "the published ± 5 % are ± 6 %",
        _SHIFT,
    ),
    Mutation(
        "half-gap",
        "measure/segment.py",
        "gap = histogram.is_integer or following",
        "gap = following",
        "the range of integer scans depends on the threshold's position within a gap",
        _SHIFT,
    ),
    Mutation(
        "range-to-both-sides",
        "measure/segment.py",
        "return float(middle - shift), float(middle + shift)",
        "return float(middle), float(middle + shift)",
        "the range is one-sided",
        _SHIFT,
    ),
    Mutation(
        "least-pore",
        "measure/blocks.py",
        "large = rows[:, column.COUNT] >= self.min_voxels",
        "large = rows[:, column.COUNT] > self.min_voxels",
        "pores of the smallest size are not counted",
        _PORES,
    ),
    Mutation(
        "threshold-itself",
        "measure/segment.py",
        'block <= bound if phase == "dark" else block > bound',
        'block < bound if phase == "dark" else block > bound',
        "voxels at the threshold do not count as pores",
        ("tests/measure/test_segment.py", *_PORES),
    ),
    Mutation(
        "diameter",
        "measure/sums.py",
        "np.cbrt(6 * self.size / math.pi)",
        "np.cbrt(4 * self.size / math.pi)",
        "equivalent diameters are wrong",
        _PORES,
    ),
    Mutation(
        "cut-pores",
        "measure/statistics/sphericity.py",
        "values[pores.touches_border] = np.nan",
        "pass",
        "pores cut by the border get a sphericity",
        _PORES,
    ),
    Mutation(
        "elongation",
        "measure/statistics/elongation.py",
        "ratio(pores.axis_lengths[:, 1], pores.axis_lengths[:, 0])",
        "ratio(pores.axis_lengths[:, 0], pores.axis_lengths[:, 1])",
        "elongation is inverted",
        _PORES,
    ),
    Mutation(
        "interval-half",
        "measure/interval.py",
        "spread=abs(share[-1.0] - share[1.0]) / 2",
        "spread=abs(share[-1.0] - share[1.0])",
        "the ± of the porosity is twice as wide",
        _INTERVAL,
    ),
    Mutation(
        "interval-side",
        "measure/interval.py",
        'sign = 1.0 if phase == "dark" else -1.0',
        'sign = -1.0 if phase == "dark" else 1.0',
        "an interval is calibrated to the wrong side",
        _INTERVAL,
    ),
    Mutation(
        "interval-quantile",
        "measure/interval.py",
        "at = round((1 - porosity) * len(moves))",
        "at = round(porosity * len(moves))",
        "an interval is calibrated to the porosity of the solid",
        _INTERVAL,
    ),
    Mutation(
        "interval-missing",
        "measure/interval.py",
        "missing = sample & ~np.isfinite(deviation)",
        "missing = ~np.isfinite(deviation)",
        "voxels outside the sample have a deviation of zero",
        _INTERVAL,
    ),
    # Filtered back-projection
    Mutation(
        "ramp",
        "tomography/filters.py",
        "taps[odd] = -1 / (np.pi * n[odd]) ** 2",
        "taps[odd] = -1 / (np.pi * n[odd] + 0.1) ** 2",
        "grey values are not attenuations",
        _FBP,
    ),
    Mutation(
        "hamming",
        "tomography/filters.py",
        "0.54 + 0.46 * np.cos",
        "0.5 + 0.5 * np.cos",
        "the Hamming filter is the Hann filter",
        _FBP,
    ),
    Mutation(
        "circular-filter",
        "tomography/filters.py",
        "length = fft.next_fast_len(2 * n, real=True)",
        "length = fft.next_fast_len(n, real=True)",
        "the filter wraps around the detector",
        _FBP,
    ),
    Mutation(
        "edge-padding",
        "tomography/filters.py",
        "torch.roll(wide, -before, dims=-1)",
        "torch.roll(wide, before, dims=-1)",
        "a repeated edge is on the wrong side",
        _FBP,
    ),
    Mutation(
        "pixel-of-the-filter",
        "tomography/filters.py",
        "filter_response(name, length) / pixel_size",
        "filter_response(name, length) * pixel_size",
        "attenuation is not per unit length",
        _FBP,
    ),
    Mutation(
        "uneven-angles",
        "tomography/filters.py",
        "(gaps + np.roll(gaps, 1)) / 2",
        "(gaps + np.roll(gaps, -1)) / 2",
        "uneven angles are weighted by their neighbours' gaps",
        _FBP,
    ),
    Mutation(
        "same-angle-twice",
        "tomography/filters.py",
        "(share / counts)[inverse]",
        "share[inverse]",
        "repeated angles count twice",
        _FBP,
    ),
    Mutation(
        "uneven-fan",
        "tomography/fan_weights.py",
        "(gaps + np.roll(gaps, 1)) / 2, 360.0",
        "(gaps + np.roll(gaps, -1)) / 2, 360.0",
        "uneven angles of a fan are weighted by their neighbours' gaps",
        _FAN,
    ),
    Mutation(
        "short-scan",
        "tomography/fan_weights.py",
        "return float(180 + 2 * np.abs(fan_angles(geometry)).max())",
        "return float(180 + np.abs(fan_angles(geometry)).max())",
        "fans over too short an arc are reconstructed",
        _FAN,
    ),
    # Angles
    Mutation(
        "wedge-steps",
        "core/angles.py",
        "_WEDGE_STEPS = 5.0",
        "_WEDGE_STEPS = 2.0",
        "wide steps of an uneven scan are mistaken for a missing wedge",
        _TURN,
    ),
    Mutation(
        "wedge-degrees",
        "core/angles.py",
        "_WEDGE_DEGREES = 10.0",
        "_WEDGE_DEGREES = 5.0",
        "a few missing views are mistaken for a missing wedge",
        _TURN,
    ),
    Mutation(
        "opposite-views",
        "core/angles.py",
        "_OPPOSITE_TOLERANCE = 0.25",
        "_OPPOSITE_TOLERANCE = 0.5",
        "views that happen to fill a turn are mistaken for opposite ones",
        _TURN,
    ),
    Mutation(
        "least-views",
        "core/angles.py",
        "_MIN_VIEWS = 12",
        "_MIN_VIEWS = 6",
        "a few views are mistaken for a full turn",
        _TURN,
    ),
    Mutation(
        "begin-of-a-turn",
        "core/angles.py",
        "_START_GAP_STEPS = 1.5",
        "_START_GAP_STEPS = 150.0",
        "a half turn across zero is split",
        _TURN,
    ),
    # Voxel size and origin
    Mutation(
        "origin-of-fine-voxels",
        "core/volume.py",
        "o - (s - 1) / (2 * s) * v",
        "o + (s - 1) / (2 * s) * v",
        "super-resolved volumes are shifted relative to the scan",
        _VOLUME,
    ),
    Mutation(
        "origin-of-a-series",
        "core/volume.py",
        "origin=(0.0, *image.origin)",
        "origin=(1.0, *image.origin)",
        "a time series opened as slices is shifted",
        _VOLUME,
    ),
    Mutation(
        "imagej-resolution",
        "io/formats/tiff/metadata.py",
        "space.size[axis] = 1 / resolution",
        "space.size[axis] = resolution",
        "voxel sizes of ImageJ files are inverted",
        _TIFF,
    ),
    Mutation(
        "inches",
        "io/formats/tiff/metadata.py",
        "25400.0 / (resolution * inch)",
        "2540.0 / (resolution * inch)",
        "voxel sizes from resolution tags are ten times too small",
        _TIFF,
    ),
    Mutation(
        "centroid",
        "measure/statistics/centroid.py",
        "geometry.origin[axis] + mean * geometry.voxel_size[axis]",
        "mean * geometry.voxel_size[axis]",
        "pores are at the wrong position",
        _PORES,
    ),
    Mutation(
        "coarse-grid",
        "registration/sampled.py",
        "first = self.origin + (factor - 1) / 2 * self.voxel_size",
        "first = self.origin + factor / 2 * self.voxel_size",
        "aligned scans are off by half a voxel",
        _GRIDS,
    ),
    Mutation(
        "cut-grid",
        "registration/sampled.py",
        "self.origin + start * self.voxel_size)",
        "self.origin)",
        "a part of a scan has the origin of the whole scan",
        _GRIDS,
    ),
    # Resuming
    Mutation(
        "resume-parts",
        "learning/training/trainer.py",
        'self.parts.count = state["parts"]',
        "pass",
        "memory runs out again after a resume",
        _TRAINER,
    ),
    Mutation(
        "resume-optimiser",
        "learning/training/trainer.py",
        'optimiser.load_state_dict(state["optimisers"][name])',
        "pass",
        "a resumed training gives other weights",
        _RESUME,
    ),
    Mutation(
        "resume-average",
        "learning/training/trainer.py",
        'self.average.load_state_dict(state["average"])',
        "pass",
        "a resumed training gives other weights",
        _RESUME,
    ),
    Mutation(
        "resume-step",
        "learning/training/trainer.py",
        'self.step, self.seconds = state["step"], state["seconds"]',
        'self.step, self.seconds = 0, state["seconds"]',
        "a resumed training starts again",
        _RESUME,
    ),
    Mutation(
        "resume-settings",
        "learning/training/checkpoint.py",
        '_DATA_SETTINGS = ("seed", ',
        "_DATA_SETTINGS = (",
        "a training is resumed with different patches",
        _RESUME,
    ),
    Mutation(
        "seed-streams",
        "learning/training/trainer.py",
        "_TORCH_KEY = 4",
        "_TORCH_KEY = _VALIDATION_KEY",
        "validation and torch draw from the same stream",
        _TRAINER,
    ),
    Mutation(
        "resume-restore-input",
        "operations/restore/resume.py",
        '_OTHER_INPUT: _input_of(record).get("checksum"),',
        "",
        "a restoration is resumed with a different scan",
        ("tests/operations/test_restore_resume.py",),
    ),
    Mutation(
        "resume-rows",
        "operations/reconstruct/resume.py",
        "found[-1] = (found[-1][0], stop)",
        "found[-1] = (found[-1][0], stop + 1)",
        "a resumed reconstruction omits a row",
        ("tests/operations/test_reconstruct_resume.py",),
    ),
    Mutation(
        "resume-tiles",
        "core/array_parts/boxes.py",
        "o.start <= i.start and i.stop <= o.stop",
        "o.start <= i.start or i.stop <= o.stop",
        "a resumed restoration omits tiles",
        ("tests/operations/test_restore_resume.py",),
    ),
    # Memory
    Mutation(
        "first-tile",
        "inference/tiles/planner.py",
        "return peak > self.budget",
        "return peak < self.budget",
        "the memory of the first tile is ignored or misinterpreted",
        _RUNNER,
    ),
    Mutation(
        "frugal-allocator",
        "inference/run.py",
        "_ALLOCATOR_EXCESS * self.planner.choice.peak_bytes <= self.budget",
        "_ALLOCATOR_EXCESS * self.planner.choice.peak_bytes >= self.budget",
        "memory kept by the C library exceeds the budget",
        _RUNNER,
    ),
    Mutation(
        "count-of-retries",
        "inference/run.py",
        "self.n_retries += 1",
        "self.n_retries += 0",
        "a size that worked is not remembered",
        _SHORT_OF_MEMORY,
    ),
    Mutation(
        "safety",
        "inference/memory.py",
        "return self.fixed + self.safety * self.counted(n_voxels)",
        "return self.fixed + self.counted(n_voxels)",
        "a measured excess of memory is ignored",
        _MEMORY,
    ),
    Mutation(
        "largest-window",
        "inference/memory.py",
        "counted = (nbytes - self.fixed) / self.safety - self.base",
        "counted = (nbytes + self.fixed) / self.safety - self.base",
        "speed is measured with windows that do not fit into memory",
        _MEMORY,
    ),
    Mutation(
        "buffers",
        "inference/memory.py",
        "(self.depth + 1) * self.network",
        "self.depth * self.network",
        "one waiting block is not counted",
        _MEMORY,
    ),
    Mutation(
        "memory-for-a-month",
        "inference/tiles/memory.py",
        "time.time() - when > _EXPIRY_SECONDS",
        "time.time() - when < _EXPIRY_SECONDS",
        "sizes that worked are forgotten at once",
        _SHORT_OF_MEMORY,
    ),
    # Noise2void
    Mutation(
        "axes-of-line-masks",
        "learning/methods/noise2void.py",
        'self.config.mask_axis in ("none", "z", "cross")',
        'self.config.mask_axis in ("none", "z", "cross", "x", "y")',
        "the mask for noise along one axis is used along the other",
        _N2V,
    ),
    Mutation(
        "hidden-share",
        "learning/methods/noise2void.py",
        "settings.masked / 100",
        "settings.masked / 50",
        "twice as many voxels are hidden as requested",
        _N2V,
    ),
    # Registration
    Mutation(
        "contrast-floor",
        "registration/search.py",
        "floor = 1e-4 * count * self.spread**2",
        "floor = 1e-1 * count * self.spread**2",
        "positions with little contrast are never found",
        _SEARCH,
    ),
    Mutation(
        "most-overlap",
        "registration/search.py",
        "_MIN_OVERLAP = 0.5",
        "_MIN_OVERLAP = 0.95",
        "partially overlapping scans are not found",
        _SEARCH,
    ),
    Mutation(
        "least-overlap",
        "registration/search.py",
        "_MIN_OVERLAP = 0.5",
        "_MIN_OVERLAP = 0.05",
        "a few voxels in a corner are mistaken for a match",
        _SEARCH,
    ),
    Mutation(
        "forget-the-neighbourhood",
        "registration/search.py",
        "score[np.ix_(*near)] = 0",
        "score[place] = 0",
        "all candidates are the same position",
        _SEARCH,
    ),
    Mutation(
        "shift-back",
        "registration/search.py",
        "p if p < n else p - f",
        "p",
        "positions before the first voxel are found at the end",
        _SEARCH,
    ),
    Mutation(
        "way-back",
        "registration/transform.py",
        "return Transform(back, -back @ self.shift)",
        "return Transform(back, back @ self.shift)",
        "the inverse transform is wrong",
        _GRIDS,
    ),
    Mutation(
        "sense-of-rotation",
        "registration/transform.py",
        "    angle = math.radians(degrees)\n",
        "    angle = -math.radians(degrees)\n",
        "a rotation has the wrong direction",
        (*_SEARCH, *_GRIDS),
    ),
)
