"""Free memory is limited by the machine and by every limit set for the process."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from napari_geosr.core.machine.memory import free_host_memory

GB = 10**9


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Large:
        available = 900 * GB

    monkeypatch.setattr(psutil, "virtual_memory", Large)


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def version_2(folder: Path, limit: object, used: int, cached: int = 0) -> None:
    write(folder / "memory.max", limit)
    write(folder / "memory.high", "max")
    write(folder / "memory.current", used)
    write(folder / "memory.stat", f"anon 5\ninactive_file {cached}\nactive_file 9")


def version_1(folder: Path, limit: int, used: int, cached: int = 0) -> None:
    write(folder / "memory.limit_in_bytes", limit)
    write(folder / "memory.usage_in_bytes", used)
    rows = f"inactive_file 1\ntotal_inactive_file {cached}"
    write(folder / "memory.stat", rows)


def test_without_limits_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert free_host_memory(tmp_path) == 900 * GB
    write(tmp_path / "proc/self/cgroup", "0::/user.slice")
    assert free_host_memory(tmp_path) == 900 * GB
    version_2(tmp_path / "sys/fs/cgroup/user.slice", "max", 5)
    assert free_host_memory(tmp_path) == 900 * GB


def test_it_is_more_than_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0 < free_host_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize("limited", ["", "system.slice", "system.slice/slurm/job_7"])
def test_every_group_above_counts(limited: str, tmp_path: Path) -> None:
    """The limit of a batch job is set between the root and the step."""
    write(tmp_path / "proc/self/cgroup", "0::/system.slice/slurm/job_7/step_0/task_1")
    top = tmp_path / "sys/fs/cgroup"
    version_2(top / "system.slice/slurm/job_7/step_0", "max", 3 * GB)
    version_2(top / limited, 8 * GB, 3 * GB, cached=GB)
    assert free_host_memory(tmp_path) == 6 * GB


def test_the_tightest_limit_holds(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/a/b")
    top = tmp_path / "sys/fs/cgroup"
    version_2(top / "a", 8 * GB, 7 * GB)
    version_2(top / "a/b", 4 * GB, GB)
    assert free_host_memory(tmp_path) == GB
    version_2(top / "a/b", 4 * GB, 5 * GB)
    assert free_host_memory(tmp_path) == 0


def test_a_group_is_slowed_down_above_its_high_mark(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/a")
    version_2(tmp_path / "sys/fs/cgroup/a", "max", GB)
    write(tmp_path / "sys/fs/cgroup/a/memory.high", 3 * GB)
    assert free_host_memory(tmp_path) == 2 * GB


def test_version_1(tmp_path: Path) -> None:
    lines = ["9:name=systemd:/oar", "4:cpu,memory:/oar/u_5", "1:cpuset:/no", "0::/"]
    write(tmp_path / "proc/self/cgroup", "\n".join(lines))
    top = tmp_path / "sys/fs/cgroup/memory"
    version_1(top, 1 << 62, 50 * GB)
    version_1(top / "oar/u_5", 5 * GB, 2 * GB, cached=GB)
    assert free_host_memory(tmp_path) == 4 * GB
    version_1(top / "oar/u_5", (1 << 63) - 4096, 2 * GB)
    assert free_host_memory(tmp_path) == 900 * GB


@pytest.mark.parametrize("group", ["/docker/abc", "/../../outside"])
def test_a_container_sees_its_own_group_at_the_top(group: str, tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", f"4:memory:{group}\n0::{group}")
    version_1(tmp_path / "sys/fs/cgroup/memory", 2 * GB, GB)
    assert free_host_memory(tmp_path) == GB


def test_a_limit_of_addresses_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5 * GB, 6 * GB))
    write(tmp_path / "proc/self/statm", "300000 2 3 4 5 6 7")
    used = 300_000 * resource.getpagesize()
    assert free_host_memory(tmp_path) == 5 * GB - used
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10**6, 6 * GB))
    assert free_host_memory(tmp_path) == 0
    endless = (resource.RLIM_INFINITY,) * 2
    monkeypatch.setattr(resource, "getrlimit", lambda _: endless)
    assert free_host_memory(tmp_path) == 900 * GB
