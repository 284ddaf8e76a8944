"""Groups of volumes that are compared with the base on the same grid.

A coarse volume must not determine the grid on which finer ones are compared, because
averaging over its voxels hides their errors. The grid on which a volume is compared
with the base is therefore determined by these two volumes alone; volumes with the same
grid form a group.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.frame import Frame, FrameVolume, on_common_frame
from napari_geosr.measure.comparison.sweep import FrameVolumes
from napari_geosr.measure.noise import noise_steps
from napari_geosr.operations.compare.positions import placed_mask


@dataclass
class RunLog:
    """Collects the remarks and warnings of a run in order, each warning only once."""

    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, sentence: str) -> WarningIssued:
        """Store a warning, and return it as a step."""
        if sentence not in self.warnings:
            self.warnings.append(sentence)
        return WarningIssued(message=sentence)


def frame_groups(
    volumes: Mapping[str, Volume], base: str, mask: Volume | None
) -> list[FrameVolumes]:
    """Find each volume's common frame with the base; equal frames form one group.

    Returns
    -------
    list of FrameVolumes
        Groups, starting with the finest frame.

    Raises
    ------
    VolumeError
        If there is no common region, or the mask does not cover it.
    """
    first = next(iter(volumes.values()))
    found: list[tuple[Frame, set[str]]] = []
    for key in volumes:
        if key == base:
            continue
        pair = {k: v for k, v in volumes.items() if k in (base, key)}
        frame = on_common_frame(pair, first)[key].frame
        for other, keys in found:
            if frame.is_same(other):
                keys.add(key)
                break
        else:
            found.append((frame, {base, key}))
    groups = []
    for _, keys in sorted(found, key=lambda pair: pair[0].voxel_volume):
        placed = on_common_frame({k: v for k, v in volumes.items() if k in keys}, first)
        groups.append(FrameVolumes(placed, base, placed_mask(mask, placed[base])))
    return groups


def own_places(groups: Sequence[FrameVolumes]) -> dict[str, FrameVolume]:
    """Return each volume in its group's frame, and the base in the finest frame."""
    found: dict[str, FrameVolume] = {}
    for group in groups:
        found = {**group.placed, **found}
    return found


def add_remarks(
    log: RunLog, group: FrameVolumes, sentences: Sequence[str], *, is_only: bool
) -> None:
    """Store remarks on a group, naming its volumes if there are other groups."""
    names = " and ".join(group.placed[key].volume.title for key in group.others)
    about = "" if is_only else f"{names}, compared with the base: "
    log.remarks += [about + sentence for sentence in sentences]


def noise_on_frames(
    groups: Sequence[FrameVolumes], should_stop: ShouldStop
) -> Generator[Step, None, list[dict[str, Noise | None]]]:
    """Measure the noise of each volume in its group's frame; None if impossible."""
    yield StageStarted(message="Measuring the noise")
    found: list[dict[str, Noise | None]] = []
    for group in groups:
        levels: dict[str, Noise | None] = {}
        for key, one in group.placed.items():
            try:
                steps = noise_steps(one.on_frame(), should_stop=should_stop)
                levels[key] = yield from steps
            except VolumeError:
                # The volume is too small, or all blocks touch unknown voxels.
                levels[key] = None
        found.append(levels)
    return found
