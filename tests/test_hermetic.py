"""A quick test reads nothing outside its clone and its temporary folders, and speaks to nothing but loopback."""

from __future__ import annotations

import fcntl
import gc
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from redense.tasks.catalog import cache_dir

ROOT = Path(__file__).parent.parent
ELSEWHERE = "192.0.2.1"  # of the addresses that RFC 5737 keeps for examples: nobody has it
SECRET = Path(pwd.getpwuid(os.getuid()).pw_dir) / ".of-the-user"  # it need not exist: the attempt is what counts


def test_a_test_has_a_home_and_a_cache_of_its_own(tmp_path: Path):
    home = Path.home()
    assert not any(home.iterdir()), "an earlier test's home"
    assert home.is_relative_to(Path(os.environ["REDENSE_TEST_BREACHES"]).parent)
    assert cache_dir() == home / ".cache" / "redense"
    assert os.environ["REDENSE_STORE"] == "none"
    (home / "left").write_text("by this test")


def test_the_next_test_does_not_see_what_the_one_before_left():
    assert not any(Path.home().iterdir())


def test_what_an_earlier_test_left_is_not_collected_in_a_later_one():
    assert not gc.isenabled(), "a `DSD` that was left in its sparse phase says so when it goes: here, in the log"


def test_the_disk_has_room_however_full_that_of_the_machine_is(tmp_path: Path):
    ask = "import shutil; print(*shutil.disk_usage('.'))"
    asked = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert asked.stdout.split() == ["1000000000000", "500000000000", "500000000000"]
    assert shutil.disk_usage(tmp_path).free == 500_000_000_000
    with pytest.raises(FileNotFoundError):
        shutil.disk_usage(tmp_path / "nowhere")


def test_an_address_that_is_not_loopback_is_refused_and_told(breaches: Any):
    with pytest.raises(OSError, match=f"a quick test spoke to {ELSEWHERE} port 80"):
        socket.create_connection((ELSEWHERE, 80), timeout=1)
    with pytest.raises(OSError, match=r"a quick test asked who redense\.invalid is"):
        socket.getaddrinfo("redense.invalid", 443)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, pytest.raises(OSError, match="a quick test spoke"):
        sender.sendto(b"", (ELSEWHERE, 53))
    assert len(breaches.take()) == 3


def test_loopback_and_sockets_of_files_are_free(tmp_path: Path, breaches: Any):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
    assert breaches.take() == []


def test_the_users_home_is_closed_and_the_python_in_it_is_not(breaches: Any):
    with pytest.raises(OSError, match=re.escape(f"a quick test opened {SECRET}")):
        SECRET.read_text()
    with pytest.raises(OSError, match="a quick test opened"):
        list(SECRET.parent.iterdir())
    assert breaches.take() == [f"opened {SECRET}", f"opened {SECRET.parent}"]
    Path(os.__file__).read_bytes()
    Path(pytest.__file__).read_bytes()
    assert breaches.take() == []


def test_a_program_that_is_no_part_of_a_test_is_not_started(breaches: Any):
    with pytest.raises(OSError, match="a quick test started /"):
        subprocess.run(["env", "true"], check=True)
    assert len(breaches.take()) == 1


PROBES = f'''
import os, pathlib, subprocess, sys, socket, pytest

def test_speaks_and_hides_it():
    try:
        socket.create_connection(("{ELSEWHERE}", 80), timeout=1)
    except OSError:
        pass

def test_reads_and_hides_it():
    try:
        pathlib.Path({str(SECRET)!r}).read_text()
    except OSError:
        pass

def test_starts_a_process_that_speaks():
    code = "import socket; socket.create_connection(('{ELSEWHERE}', 80), timeout=1)"
    subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)

@pytest.fixture
def hides():
    test_reads_and_hides_it()

def test_has_a_fixture_that_reads(hides):
    pass

def test_stays():
    pass

@pytest.mark.slow
def test_is_slow_and_may_ask():
    try:
        socket.getaddrinfo("redense.invalid", 443)
    except OSError as error:
        assert "quick test" not in str(error)
'''

DEATHS = """
import os, signal, pytest

def test_is_before():
    pass

def test_kills_its_process():
    os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.parametrize("number", range(3))
def test_is_after(number, tmp_path):
    assert number != 1
"""


def test_a_test_that_leaves_fails_by_name_though_it_hides_the_error_or_starts_a_process(tmp_path: Path):
    (tmp_path / "test_probes.py").write_text(PROBES)
    (tmp_path / "test_deaths.py").write_text(DEATHS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "-rfE"]
    words += [
        "--workers",
        "2",
        "--budget",
        "0",
        str(tmp_path),
    ]  # and the tests of a process that has died are run by another
    paths = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": paths}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert re.search(r"5 failed, 5 passed, 1 error", done.stdout), done.stdout + done.stderr
    for name, what in {
        "test_speaks_and_hides_it": f"spoke to {ELSEWHERE} port 80",
        "test_reads_and_hides_it": f"opened {SECRET}",
        "test_starts_a_process_that_speaks": f"spoke to {ELSEWHERE} port 80",
        "test_has_a_fixture_that_reads": f"opened {SECRET}",
    }.items():
        assert re.search(rf"test_probes\.py::{name} .*{re.escape(what)}", done.stdout), done.stdout
    assert "test_deaths.py::test_kills_its_process: its process ended with signal SIGKILL" in done.stdout
    assert re.search(r"ERROR the tests cost \d+ s of processor time and have 0 s, times \d\.\d\d for", done.stdout)
    assert "FAILED test_deaths.py::test_is_after[1] - assert 1 != 1" in done.stdout


def test_workers_refuse_a_folder_that_each_of_them_would_clear(tmp_path: Path):
    (tmp_path / "test_two.py").write_text("def test_one():\n    pass\n")
    words = ["-m", "pytest", "-q", "-p", "conftest", "--workers", "2", "--basetemp", str(tmp_path / "x"), str(tmp_path)]
    paths = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    more = {"env": {**os.environ, "PYTHONPATH": paths}, "cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, *words], check=False, **more)
    assert done.returncode == 4
    assert "set TMPDIR instead" in done.stderr


def test_what_killed_test_processes_left_is_removed_and_what_is_in_use_is_not(
    tmp_path: Path, pytestconfig: pytest.Config
):
    conftest: Any = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    now = time.time()
    for name in ("redense-tests-killed", "redense-tests-at-work", "redense-tests-new", "another"):
        (tmp_path / name / "home").mkdir(parents=True)
        (tmp_path / name / "held").touch()
        os.utime(tmp_path / name / "held", (now, now - 3600 * (not name.endswith("new"))))
    (tmp_path / "redense-tests-link").symlink_to(tmp_path / "another")
    with (tmp_path / "redense-tests-at-work" / "held").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert conftest.take_away_forgotten(tmp_path, now) == [tmp_path / "redense-tests-killed"]
    assert conftest.take_away_forgotten(tmp_path, now) == [tmp_path / "redense-tests-at-work"]  # it has ended
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "redense-tests-link", "redense-tests-new"]
    assert conftest.FOLDER.is_dir()


def test_the_files_that_go_to_one_worker_are_there(pytestconfig: pytest.Config):
    conftest: Any = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    assert set(conftest.TOGETHER.values()) == {"some_arms", "browser", "timm"}
    assert [file for file in conftest.TOGETHER if not (ROOT / file).is_file()] == []


def test_tests_that_cost_more_than_their_budget_fail_and_a_slower_processor_has_more(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
):
    conftest: Any = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    assert conftest.too_much(500.0, 650.0, 1.0) == ""
    assert conftest.too_much(700.0, 650.0, 1.5) == ""
    assert "the tests cost 700 s of processor time and have 650 s" in conftest.too_much(700.0, 650.0, 1.0)
    monkeypatch.setattr(conftest, "_folder", lambda: conftest.FOLDER)  # as in the first process
    monkeypatch.setattr(conftest, "_over", [])
    monkeypatch.setitem(sys.modules, "forked", None)
    for budget, status in ((None, 0), (1e9, 0), (0.0, 1)):
        session = SimpleNamespace(config=SimpleNamespace(option=SimpleNamespace(budget=budget)), exitstatus=0)
        conftest.pytest_sessionfinish(session)
        assert session.exitstatus == status
