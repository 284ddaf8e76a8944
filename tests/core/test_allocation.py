"""Cores and memory are limited to what a queue has allocated, even if not enforced."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest

from napari_geosr.core.machine import allocation
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.inference import compute

MIB = 2**20


@pytest.fixture(autouse=True)
def _a_large_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores and much memory, without affinity and control groups."""
    for name in os.environ:
        if name.startswith(("SLURM_", "OAR_", "NAPARI_GEOSR_")):
            monkeypatch.delenv(name)

    class Large:
        available = 900_000 * MIB

    monkeypatch.setattr(psutil, "virtual_memory", Large)
    monkeypatch.setattr(
        os, "sched_getaffinity", lambda _: set(range(64)), raising=False
    )


def own_bytes() -> int:
    own = psutil.Process()
    return sum(p.memory_info().rss for p in (own, *own.children(recursive=True)))


def test_outside_an_allocation_one_core_is_left_free(tmp_path: Path) -> None:
    assert compute.usable_cores() == 64
    assert compute.default_threads() == 63
    assert free_host_memory(tmp_path) == 900_000 * MIB


@pytest.mark.parametrize(
    ("variables", "cores", "megabytes"),
    [
        # A script that will start eight tasks, and one of two tasks.
        ({"SLURM_CPUS_PER_TASK": "1", "SLURM_CPUS_ON_NODE": "8"}, 8, None),
        (
            {
                "SLURM_CPUS_PER_TASK": "4",
                "SLURM_CPUS_ON_NODE": "8",
                "SLURM_STEP_NUM_TASKS": "2",
            },
            4,
            None,
        ),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_NODE": "16384"}, 8, 16384),
        ({"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "2000"}, 8, 16000),
        # 0 means all of the memory of the node.
        ({"SLURM_CPUS_ON_NODE": "128", "SLURM_MEM_PER_NODE": "0"}, 64, None),
        ({allocation.CORES: "4", allocation.MEGABYTES: "9000"}, 4, 9000),
    ],
)
def test_all_cores_of_an_allocation_are_used_and_no_others(
    variables: dict[str, str],
    cores: int,
    megabytes: int | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert compute.usable_cores() == compute.default_threads() == cores
    assert compute.threads_used(100) == cores
    free = free_host_memory(tmp_path)
    if megabytes is None:
        assert free == 900_000 * MIB
    else:  # the memory of this process is not free
        assert free == pytest.approx(megabytes * MIB - own_bytes(), abs=300 * MIB)
        assert free < megabytes * MIB


def test_the_file_of_oar_has_a_line_for_each_core(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, file = socket.gethostname().partition(".")[0], tmp_path / "nodes"
    monkeypatch.setenv("OAR_NODEFILE", str(file))
    monkeypatch.setenv(allocation.CORES, "16")
    file.write_text(f"{own}.site\n" * 8 + "another.site\n" * 8)
    assert compute.default_threads() == 8
    # A single line may be a whole node.
    file.write_text(f"{own}.site\nanother.site\n")
    assert compute.default_threads() == 16
    monkeypatch.delenv(allocation.CORES)
    assert compute.default_threads() == 64
