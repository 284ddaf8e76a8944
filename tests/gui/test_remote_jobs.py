"""Runs and jobs on another computer, reached by a fake ssh, in real napari."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import opening
import pytest
import tifffile
from event_loop import Turns
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_geosr import io
from napari_geosr.core.errors import JobError
from napari_geosr.core.version import __version__
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs import hosts, remote_preview
from napari_geosr.gui.kit.dock_tabs import JOBS
from napari_geosr.jobs import index, previews
from napari_geosr.jobs.cluster import profiles, remote
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.measure.job import labels_file

sys.path.append(str(Path(__file__).parents[1] / "queues"))
import fake_ssh
import oar_emulator

HOST = "me@login"


@pytest.fixture
def computer(new_folder, monkeypatch):
    """A login node with an OAR without free resources, not on this computer."""
    programs, queue, place = new_folder(), new_folder(), new_folder()
    home = programs / "home"
    home.mkdir()
    fake_ssh.install(programs, home)
    fake_ssh.put_program(programs)
    oar_emulator.install(queue)
    busy = {"state": "Running", "types": [], "resubmit_job_id": 0}
    (place / "jobs.json").write_text(json.dumps({"36000": busy}))
    with (home / ".bash_profile").open("a") as file:
        file.write(f'export PATH="{queue}:$PATH" OAR_EMULATOR="{place}"\n')
        file.write(f'export XDG_STATE_HOME="{home}/state"\n')
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("XDG_STATE_HOME", str(new_folder()))
    monkeypatch.setenv("OAR_EMULATOR", str(place))  # for `end_all`
    yield programs
    oar_emulator.end_all()


@pytest.fixture
def shared(new_folder):
    """A folder, and its path on the other computer."""
    here = new_folder() / "Z"
    here.mkdir()
    there = new_folder() / "bettik"
    there.symlink_to(here)
    return here, there


@pytest.fixture
def dialog(viewer, qtbot, shared, rng):
    data = rng.normal(100, 10, (8, 32, 32)).astype(np.float32)
    tifffile.imwrite(shared[0] / "scan.tif", data, imagej=True)
    viewer.open(shared[0] / "scan.tif", plugin="napari-geosr")
    shown = opening.asked_where(opening.opened(viewer), qtbot)
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    yield shown
    with suppress(RuntimeError):  # it is deleted when it is closed
        shown.close()


def submit(dialog, qtbot):
    with qtbot.waitSignal(dialog._activity.idle, timeout=60_000):
        dialog.submit_button.click()


def listed(dock) -> dict[str, str]:
    return {item.text(0): item.text(1) for item in dock._items()}


def test_a_run_is_submitted_on_another_computer(
    computer, dialog, viewer, qtbot, shared
):
    here, there = shared
    assert not dialog.shared.isVisible()
    dialog.computer.setText(HOST)
    assert dialog.shared.isVisible()
    dialog.shared.set_values({"local_folder": str(here), "remote_folder": str(there)})
    dialog.form.set_values({"walltime": "90min"})
    dialog._show_script()
    script = dialog.script.toPlainText()
    assert f"cd {there}/" in script
    assert str(here) not in script
    dialog.keep_as.setText("far")
    submit(dialog, qtbot)
    [folder] = [path for path in here.iterdir() if path.is_dir()]
    job = JobFolder(folder)
    assert job.values()["data"]["volume"] == str(there / "scan.tif")
    status = job.status()
    assert (status.state, status.queue.title) == ("queued", "OAR")
    assert status.queue.number
    assert f"OAR job {status.queue.number} on {HOST}" in (
        opening.opened(viewer).message.text
    )
    # The other computer has written the script, with the resources of the dialog.
    assert "walltime=1:30:00" in (folder / "submit.sh").read_text()
    kept = profiles.load_profile("far")
    assert (kept.host, kept.local_folder) == (HOST, str(here))
    # The Jobs dock shows the job once, with its state in the other queue.
    dock = opening.opened(viewer, JOBS)
    qtbot.waitUntil(lambda: HOST in dock.watch.jobs, timeout=30_000)
    expected = {status.name: "waiting"}
    qtbot.waitUntil(lambda: listed(dock) == expected, timeout=30_000)
    assert dock.view.job == folder
    # Pause and resume are also sent to the other computer.
    dock.view.pause_button.click()
    qtbot.waitUntil(lambda: job.status().state == "cancelled", timeout=30_000)
    qtbot.waitUntil(dock.view.resume_button.isEnabled, timeout=30_000)
    dock.view.resume_button.click()
    # The program there starts several times, which takes time on a busy computer.
    qtbot.waitUntil(lambda: job.status().state == "queued", timeout=120_000)
    assert job.status().queue.number != status.queue.number
    remote.stop(index.elsewhere_of(folder))


def test_what_the_other_computer_refuses_leaves_nothing(
    computer, dialog, qtbot, shared, tmp_path
):
    dialog.computer.setText(HOST)
    # Both paths are needed, or neither; and the folder must be in the shared one.
    dialog.shared.set_values({"local_folder": str(tmp_path)})
    dialog.submit_button.click()
    assert "on both computers" in dialog.message.text
    dialog.shared.set_values({"remote_folder": "/bettik/me"})
    dialog.submit_button.click()
    assert f"is not in the shared folder {tmp_path}" in dialog.message.text
    wrong = {"local_folder": str(shared[0]), "remote_folder": "/no/such/folder"}
    dialog.shared.set_values(wrong)
    submit(dialog, qtbot)
    assert "check the paths of the shared folder" in dialog.message.text
    (computer / "refusal").write_text("me@login: Permission denied (publickey).\n")
    submit(dialog, qtbot)
    assert "ssh-copy-id" in dialog.message.text
    dialog.computer.setText("-oProxyCommand=touch hacked")
    dialog.submit_button.click()
    assert "is not a valid computer" in dialog.message.text
    assert [path.name for path in shared[0].iterdir()] == ["scan.tif"]
    assert index.list_jobs() == []


def test_the_computer_of_a_profile_is_proposed(computer, viewer, dialog, qtbot):
    profiles.save_profile("far", Profile(queue="oar", host=HOST))
    dialog.reject()
    shown = opening.asked_where(opening.opened(viewer), qtbot)
    shown.cluster.setCurrentIndex(shown.cluster.findData("far"))
    assert shown.computer.text() == HOST
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    assert shown.computer.text() == ""
    shown.reject()


# The Jobs dock

#: Responds slowly, like a distant computer.
_SLOW = f"""\
#!/bin/sh
[ "$1" = --version ] && {{ echo {__version__}; exit; }}
echo "$@" >>FOLDER/said
sleep 0.7
cat FOLDER/answer
"""


def answer(folder: Path, *jobs: dict) -> None:
    """Make the computer return these jobs."""
    fake_ssh.put_program(folder, _SLOW.replace("FOLDER", str(folder)))
    common = {"operation": "restore", "method": "ct-denoise", "created": 1.0}
    values = [common | job for job in jobs]
    (folder / "answer.new").write_text(json.dumps({"jobs": values}))
    (folder / "answer.new").rename(folder / "answer")


def queued(words: str) -> dict:
    place = {"queue": "oar", "title": "OAR", "number": "77", "words": words}
    return {"path": "/bettik/clean.job", "name": "clean", "queue": place}


def add_host(dock, monkeypatch, host=HOST) -> None:
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: (host, True))
    dock.host_button.click()


def test_jobs_of_another_computer_are_listed_and_polled(
    computer, viewer, qtbot, monkeypatch
):
    monkeypatch.setattr(hosts, "_ALIVE_SECONDS", 0.2)
    answer(computer, queued("waiting: priority") | {"state": "queued"})
    dock = opening.opened(viewer, JOBS)
    add_host(dock, monkeypatch)
    name = f"clean on {HOST}"
    with Turns() as turns:  # while it is queried
        qtbot.waitUntil(lambda: name in listed(dock), timeout=30_000)
    assert turns.count > 50
    assert listed(dock)[name] == "waiting: priority"
    assert "1 job" in dock.message.text
    dock.tree.setCurrentItem(dock._items()[0])
    assert "OAR job 77" in dock.remote.label.text()
    assert dock.remote.stop_button.isEnabled()
    assert not dock.remote.resume_button.isEnabled()
    running = queued("") | {"state": "running", "done": 30, "total": 60}
    running |= {"parts": [100, 0], "energy": "about 0.1 kWh, 6 g CO₂eq"}
    running["queue"]["problem"] = "OAR does not respond: no route to host"
    answer(computer, running)
    qtbot.waitUntil(lambda: listed(dock)[name].startswith("running"), timeout=30_000)
    assert listed(dock)[name] == "running (last known)"
    qtbot.waitUntil(lambda: "50 % done" in dock.remote.label.text(), timeout=5000)
    assert "Energy: about 0.1 kWh" in dock.remote.label.text()
    assert "OAR does not respond" in dock.remote.label.text()
    assert dock.remote.strip.isVisible()
    assert dock.remote.strip.parts == (100, 0)
    assert dock._items()[0].text(2) == "50 %"
    dock.remote.stop_button.click()
    said = computer / "said"
    stopped = "jobs stop /bettik/clean.job"
    qtbot.waitUntil(lambda: stopped in said.read_text(), timeout=30_000)
    answer(computer, queued("") | {"state": "running", "request": "cancel"})
    qtbot.waitUntil(lambda: listed(dock)[name] == "stopping", timeout=30_000)
    assert not dock.remote.stop_button.isEnabled()
    answer(computer, queued("") | {"state": "cancelled"})
    qtbot.waitUntil(dock.remote.resume_button.isEnabled, timeout=30_000)
    dock.remote.resume_button.click()
    # In its queue, not on the login node itself.
    resumed = "jobs resume /bettik/clean.job\n"
    qtbot.waitUntil(lambda: resumed in said.read_text(), timeout=30_000)


def test_another_version_is_noted_in_the_dock(computer, viewer, qtbot, monkeypatch):
    answer(computer, queued("waiting: priority") | {"state": "queued"})
    program = computer / "napari-geosr"
    other = __version__.partition(".")[0] + ".987.1"
    program.write_text(
        program.read_text().replace(f"echo {__version__}", f"echo {other}")
    )
    dock = opening.opened(viewer, JOBS)
    add_host(dock, monkeypatch)
    qtbot.waitUntil(lambda: other in dock.message.text, timeout=30_000)
    assert f"{HOST} has napari-geosr {other}" in dock.message.text
    assert listed(dock)
    dock.tree.setCurrentItem(dock._items()[0])
    dock.message.clear()
    dock.remote.stop_button.click()
    qtbot.waitUntil(lambda: other in dock.message.text, timeout=30_000)


def test_a_result_is_opened_from_a_shared_folder(
    computer, viewer, qtbot, monkeypatch, shared, rng, tmp_path
):
    here, _ = shared
    data = rng.normal(100, 10, (4, 16, 16)).astype(np.float32)
    io.write(Volume(data, "ZYX", voxel_size=2.0, unit="µm"), here / "clean.ome.zarr")
    done = queued("") | {"state": "done", "result": "/bettik/me/clean.ome.zarr"}
    answer(computer, done)
    remote.watch_host(HOST)
    dock = opening.opened(viewer, JOBS)
    qtbot.waitUntil(lambda: bool(listed(dock)), timeout=30_000)
    dock.tree.setCurrentItem(dock._items()[0])
    asked = []

    def choose(_parent, text):
        asked.append(text)
        return str(tmp_path if len(asked) == 1 else here)

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", choose)
    threads, main_thread, find = set(), threading.get_ident(), remote.path_here

    def find_here(*words):
        threads.add(threading.get_ident())
        return find(*words)

    monkeypatch.setattr(remote, "path_here", find_here)
    dock.remote.result_button.click()
    missing = "does not contain clean.ome.zarr"
    qtbot.waitUntil(lambda: missing in dock.message.text, timeout=30_000)
    for n_layers in (1, 2):  # the folder is requested once
        qtbot.waitUntil(dock.remote.result_button.isEnabled, timeout=5000)
        dock.remote.result_button.click()
        qtbot.waitUntil(lambda n=n_layers: len(viewer.layers) == n, timeout=30_000)
        qtbot.waitUntil(lambda: not dock.remote.opener.activity.busy, timeout=5000)
    assert (
        asked
        == [f"Folder on this computer that corresponds to /bettik/me on {HOST}"] * 2
    )
    assert main_thread not in threads  # a network folder may be slow
    layer = viewer.layers[0]
    assert not isinstance(layer.data, np.ndarray)
    np.testing.assert_array_equal(layer.data, data)
    np.testing.assert_allclose(layer.scale, 2.0)


def test_a_report_is_opened_from_a_shared_folder(
    computer, viewer, qtbot, monkeypatch, shared
):
    here, there = shared
    page = here / "report" / "report.html"
    page.parent.mkdir()
    page.touch()
    pores = Volume(np.ones((4, 8, 8), np.int32), "ZYX")
    io.write(pores, labels_file(page))
    done = queued("") | {"state": "done", "operation": "measure"}
    done["result"] = f"{there}/report/report.html"
    answer(computer, done)
    remote.watch_host(HOST)
    dock = opening.opened(viewer, JOBS)
    qtbot.waitUntil(lambda: bool(listed(dock)), timeout=30_000)
    dock.tree.setCurrentItem(dock._items()[0])
    opened = []
    monkeypatch.setattr(hosts.QDesktopServices, "openUrl", opened.append)
    dock.remote.result_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=30_000)
    assert [url.toLocalFile() for url in opened] == [f"{there}/report/report.html"]
    np.testing.assert_array_equal(viewer.layers[0].data, 1)


def test_the_preview_of_a_remote_job_is_pulled(
    computer, viewer, qtbot, monkeypatch, tmp_path, rng
):
    monkeypatch.setattr(hosts, "_ALIVE_SECONDS", 0.2)
    plane = rng.normal(100, 10, (1, 16, 16)).astype(np.float32)
    running = queued("") | {"state": "running", "total": 60}

    def compute(done: int, data: np.ndarray) -> None:
        io.write(Volume(data, "ZYX"), tmp_path / "seen.tif", overwrite=True)
        tiff = base64.b64encode((tmp_path / "seen.tif").read_bytes()).decode()
        seen = json.dumps({"stamp": done, "tiff": tiff})
        (computer / "seen.new").write_text(seen)
        (computer / "seen.new").rename(computer / "seen")
        answer(computer, running | {"done": done, "updated": float(done)})
        program = computer / "napari-geosr"
        text = program.read_text().replace("sleep 0.7\n", "")
        lines = f'[ "$2" = preview ] && {{ cat {computer}/seen; exit; }}\n'
        fake_ssh.put_program(computer, text.replace("cat ", lines + "cat ", 1))

    compute(10, plane)
    remote.watch_host(HOST)
    dock = opening.opened(viewer, JOBS)
    qtbot.waitUntil(lambda: bool(listed(dock)), timeout=30_000)
    dock.tree.setCurrentItem(dock._items()[0])
    assert not viewer.layers  # nothing is copied before it is asked for
    dock.remote.preview_box.setChecked(True)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=30_000)
    (layer,) = viewer.layers
    assert layer.name == f"clean on {HOST} · preview"
    np.testing.assert_array_equal(layer.data, plane)
    compute(20, plane + 1)
    qtbot.waitUntil(
        lambda: np.array_equal(viewer.layers[0].data, plane + 1), timeout=30_000
    )
    assert "jobs preview /bettik/clean.job --json\n" in (computer / "said").read_text()
    dock.remote.preview_box.setChecked(False)
    qtbot.waitUntil(lambda: not viewer.layers, timeout=5000)


def test_a_preview_is_fetched_again_after_an_error(
    computer, viewer, qtbot, monkeypatch, rng
):
    """The job is done, so that its time stamp no longer changes."""
    monkeypatch.setattr(hosts, "_IDLE_SECONDS", 0.2)
    monkeypatch.setattr(remote_preview, "_RETRY_SECONDS", 0.5)
    plane = rng.normal(100, 10, (1, 16, 16)).astype(np.float32)
    tries, errors = [], []

    def fetch(_job, path, _stop):
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise JobError("The connection was closed.")
        io.write(Volume(plane, "ZYX"), path)
        return 7

    monkeypatch.setattr(previews, "fetch", fetch)
    done = queued("") | {"state": "done", "updated": 5.0}
    study = {"path": "/bettik/s.job", "name": "s", "operation": "study projections"}
    answer(computer, done, study | {"state": "done"})
    remote.watch_host(HOST)
    dock = opening.opened(viewer, JOBS)
    dock.remote.preview.failed.connect(lambda error: errors.append(str(error)))
    qtbot.waitUntil(lambda: len(listed(dock)) == 2, timeout=30_000)
    items = {item.text(0): item for item in dock._items()}
    dock.tree.setCurrentItem(items[f"clean on {HOST}"])
    dock.remote.preview_box.setChecked(True)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=30_000)
    assert np.diff(tries).min() >= 0.5
    assert errors == ["The connection was closed."]
    # A job without a preview does not keep that of another job.
    dock.tree.setCurrentItem(items[f"s on {HOST}"])
    assert not dock.remote.preview_box.isEnabled()
    assert not viewer.layers
    assert len(tries) == 3


def test_a_computer_that_is_gone_keeps_its_last_states(
    computer, viewer, qtbot, monkeypatch
):
    monkeypatch.setattr(hosts, "_ALIVE_SECONDS", 0.2)
    monkeypatch.setattr(hosts, "_IDLE_SECONDS", 0.2)
    answer(computer, queued("waiting: priority") | {"state": "queued"})
    remote.watch_host(HOST)  # in an earlier session
    dock = opening.opened(viewer, JOBS)
    name = f"clean on {HOST}"
    qtbot.waitUntil(lambda: name in listed(dock), timeout=30_000)
    (computer / "refusal").write_text("ssh: connect to host login: no route to host\n")
    qtbot.waitUntil(lambda: "last known" in listed(dock)[name], timeout=30_000)
    assert "no route to host" in dock.message.text
    dock.message.clear()
    (computer / "refusal").unlink()
    qtbot.waitUntil(lambda: "last known" not in listed(dock)[name], timeout=30_000)
    assert dock.message.text == ""
    # A removed computer is no longer queried.
    dock.tree.setCurrentItem(dock._items()[0])
    yes = QMessageBox.StandardButton.Yes
    monkeypatch.setattr(QMessageBox, "question", lambda *_: yes)
    dock.remove_button.click()
    assert listed(dock) == {}
    assert not dock.remote.isVisible()
    assert remote.watched_hosts() == []
    qtbot.waitUntil(lambda: not dock.watch._activity.busy, timeout=30_000)
    n_calls = len((computer / "said").read_text().splitlines())
    qtbot.wait(600)
    assert len((computer / "said").read_text().splitlines()) == n_calls


def test_closing_the_window_does_not_wait_for_a_computer(
    computer, make_napari_viewer, qtbot, monkeypatch
):
    answer(computer)
    program = "#!/bin/sh\n[ $1 = --version ] && { echo " + __version__ + "; exit; }\n"
    fake_ssh.put_program(computer, program + f"touch {computer}/began; exec sleep 60\n")
    viewer = make_napari_viewer(show=True)
    dock = opening.opened(viewer, JOBS)
    add_host(dock, monkeypatch)
    qtbot.waitUntil((computer / "began").exists, timeout=30_000)
    began = time.monotonic()
    viewer.close()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("text", ["not json", "[]", '{"jobs": [{}]}', '{"jobs": 3}'])
def test_odd_answers_are_a_sentence(computer, viewer, qtbot, monkeypatch, text):
    answer(computer)
    (computer / "answer").write_text(text)
    dock = opening.opened(viewer, JOBS)
    add_host(dock, monkeypatch)
    qtbot.waitUntil(lambda: "list of jobs" in dock.message.text, timeout=30_000)
    add_host(dock, monkeypatch, "a b")
    assert "is not a valid computer" in dock.message.text
    assert remote.watched_hosts() == [HOST]
