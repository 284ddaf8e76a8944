"""Settings of a comparison.

This module does not import heavy libraries, because ``--help`` loads it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.measure.config import (
    PorosityConfig,
    ThresholdRule,
    finite_threshold,
)

#: Data for the Fourier correlation: none, two halves, a pair of scans, or each volume
#: with itself.
FscSource = Literal["none", "halves", "pair", "single"]


class CompareFields(Config):
    """Settings of a comparison that are command-line options."""

    data_range: float | None = Field(
        default=None,
        title="Data range",
        description="Grey-value range for PSNR and SSIM. By default, from the 0.1th to "
        "the 99.9th percentile of the reference; without a reference, the smallest "
        "such range among the volumes on the same grid. After a fit of gain and "
        "offset, and for the range-invariant PSNR, the range of the base is used.",
    )
    affine: bool = Field(
        default=False,
        title="Fit gain and offset",
        description="Fit the gain and offset of each volume to match the base (the "
        "reference or, without one, the first volume) before computing PSNR, SSIM, "
        "MS-SSIM, NRMSE and the difference.",
    )
    ssim: Literal["auto", "volume", "slices"] = Field(
        default="auto",
        title="SSIM window",
        description="Window of SSIM and MS-SSIM. volume: 11 voxels along all axes; "
        "slices: 11 pixels within each slice; auto: slices for volumes with fewer "
        "than 11 slices, otherwise volume.",
    )
    pores: bool = Field(
        default=True,
        title="Pores",
        description="Measure the pores of all volumes and match them one by one.",
    )
    graph: bool = Field(
        default=False,
        title="Graph",
        description="Also trace the pores of each volume as a network of tubes, and "
        "compare the branches with those of the base. The volumes are read completely "
        "into memory.",
    )
    graph_distance: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        title="Distance between branches",
        description="With --graph: largest distance at which a branch counts as found, "
        "in the unit of the first volume; by default twice the voxel size of the "
        "volume or of the base, whichever is larger.",
    )
    difference: bool = Field(
        default=True,
        title="Difference",
        description="Write the difference from the base, in units of the noise.",
    )
    threshold: ThresholdRule | float = Field(
        default="otsu",
        title="Threshold",
        union_mode="left_to_right",
        description="Method that finds the threshold between pore and solid in each "
        "volume, or a grey value for all.",
    )
    phase: Literal["dark", "bright"] = Field(
        default="dark",
        title="Pores are",
        description="dark: pores are at or below the threshold; bright: pores are "
        "above it.",
    )
    min_voxels: int = Field(
        default=8,
        ge=1,
        le=10**9,
        title="Minimum pore size (voxels)",
        description="Minimum size of the pores that are counted and listed, in voxels; "
        "if voxel sizes differ, in voxels of the largest size.",
    )
    connectivity: Literal[6, 26] = Field(
        default=26,
        title="Connectivity",
        description="Which adjacent voxels belong to the same pore: 26 includes those "
        "that touch at a corner, 6 only those that share a face (in 2D: 8 or 4).",
    )
    memory: MemoryBudget = None

    _check_threshold = field_validator("threshold", mode="after")(finite_threshold)

    def measuring(self) -> PorosityConfig:
        """Return the settings for measuring pores."""
        names = ("threshold", "phase", "min_voxels", "connectivity", "graph", "memory")
        return PorosityConfig.create(**{name: getattr(self, name) for name in names})


class CompareConfig(CompareFields):
    """All settings of a comparison."""

    fsc: FscSource = Field(
        default="none",
        title="Fourier correlation",
        description="What is correlated. halves: two independent halves of one scan; "
        "pair: the first two volumes, which are independent scans; single: each "
        "volume with itself, split in a checkerboard pattern.",
    )
