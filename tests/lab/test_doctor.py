"""What the doctor finds, on a machine that lacks something."""

from __future__ import annotations

import json
import os
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from redense.lab import doctor
from redense.tasks import catalog


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDENSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REDENSE_STORE", str(tmp_path / "store"))
    return tmp_path


def found(what: str) -> doctor.Finding:
    (finding,) = [finding for finding in doctor.examine() if finding.what == what]
    return finding


def test_nothing_is_left_behind(here: Path):
    doctor.examine()
    assert not list(here.iterdir())


def test_versions_are_those_that_run(here: Path):
    assert found("torch").said == metadata.version("torch")
    assert found("torch").state == "ok"


def test_every_extra_for_users_is_looked_at(here: Path):
    extras = {finding.what for finding in doctor.examine() if finding.group == "extras"}
    assert extras == {
        "hub", "vision", "timm", "captioning", "speech", "lightning", "transformers", "methods", "ray",
    }  # fmt: skip


def test_an_extra_that_is_missing_says_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch):
    real = metadata.version

    def version(name: str) -> str:
        if name == "sacrebleu":
            raise metadata.PackageNotFoundError
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    finding = found("captioning")
    assert (finding.state, finding.cure) == ("missing", "pip install 'redense[captioning]'")
    assert "sacrebleu" in finding.said


def test_a_package_that_cannot_be_imported_is_a_problem(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(doctor._MODULES, "sacrebleu", "sacrebleu_is_not_there")
    finding = found("captioning")
    assert finding.state == "problem"
    assert "No module named 'sacrebleu_is_not_there'" in finding.said


@pytest.mark.skipif(not hasattr(shutil, "chown"), reason="no owners")
def test_a_folder_that_cannot_be_written_is_a_problem(here: Path, monkeypatch: pytest.MonkeyPatch):
    (here / "file").write_text("")
    monkeypatch.setenv("REDENSE_CACHE", str(here / "file" / "cache"))
    finding = found("cache")
    assert finding.state == "problem"
    assert "REDENSE_CACHE" in finding.cure


def test_a_disk_that_is_nearly_full_is_a_problem(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_FREE", 2**60)
    assert found("store").state == "problem"


def test_cores_that_this_process_may_not_use_are_told(here: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 48)
    monkeypatch.setattr(doctor, "usable_cores", lambda: 3)
    assert " of 3 that this process may use of 48; OMP_NUM_THREADS" in found("threads").said
    monkeypatch.setattr(doctor, "usable_cores", lambda: 48)
    assert " of 48; OMP_NUM_THREADS" in found("threads").said


def test_data_is_ready_absent_or_incomplete(here: Path):
    assert found("emoji").state == "missing"
    assert found("emoji").cure.startswith("redense data get emoji")
    (catalog.cache_dir() / "emoji").mkdir(parents=True)
    assert found("emoji").state == "problem"


def test_the_command_prints_all_and_tells_programs_by_its_exit_code(redense):
    code, out, _ = redense("doctor")
    assert "fashion-mnist" in out
    assert ("nothing would fail" in out) == (code == 0)
    code, out, _ = redense("doctor", "--json")
    states = {finding["state"] for finding in json.loads(out)["findings"]}
    assert code == int("problem" in states)
    assert json.loads(out)["environment"]["torch"] == metadata.version("torch")
