"""What reaches the Hub is what an export holds, with a header that it understands. The Hub is a server of our own."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typing_extensions import override

from redense.lab.recipe.recipe import Recipe
from redense.lab.runs.export import export_run
from redense.lab.runs.run import new_run, train_run

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

Run = Callable[..., tuple[int, str, str]]


class Hub(ThreadingHTTPServer):
    """A Hub that takes small files into a dict, or answers everything with an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.made: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.fails: int | None = None


class Answers(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:  # some versions ask how the repository keeps large files
        self.answer({"id": "me/net"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.fails:
            return self.answer({"error": "not yours"}, self.server.fails)
        if self.path == "/api/repos/create":
            self.server.made.append(json.loads(body) | {"token": self.headers["Authorization"]})
            return self.answer({"url": f"{self.server.address}/me/net"})
        if self.path == "/api/models/me/net/preupload/main":
            files = [{"path": f["path"], "uploadMode": "regular"} for f in json.loads(body)["files"]]
            return self.answer({"files": [file | {"shouldIgnore": False, "oid": None} for file in files]})
        if self.path.startswith("/api/models/me/net/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.answer({"commitUrl": f"{self.server.address}/me/net/commit/0", "commitOid": "0"})
        return self.answer({"errors": [], "warnings": []})  # it looks at the card's header first

    def answer(self, tree: Any, code: int = 200) -> None:
        data = json.dumps(tree).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def run(tiny: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = new_run(tiny(), tmp_path_factory.mktemp("published") / "run")
    train_run(folder)
    return folder


def test_the_hub_gets_what_an_export_holds(hub: Hub, redense: Run, run: Path, tmp_path: Path):
    code, out, err = redense("export", run, "hub:me/net", "--private")
    assert (code, err) == (0, "")
    assert out == f"{hub.address}/me/net\n"
    assert [(m["name"], m["organization"], m["token"]) for m in hub.made] == [("net", "me", "Bearer hf_of_a_test")]
    assert hub.made[0].get("private") or hub.made[0].get("visibility") == "private"
    out = export_run(run, tmp_path / "export")
    exported = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    card = exported.pop("README.md").decode()
    sent = hub.files.pop("README.md").decode()
    assert hub.files == exported
    _, header, body = sent.split("---\n", 2)
    assert body.strip() == card.strip()
    facts = yaml.safe_load(header)
    result = json.loads((run / "result.json").read_text())
    figure = facts["model-index"][0]["results"][0]["metrics"][0]
    assert figure == {"type": "error", "value": round(result["phases"][-1]["test"]["error"], 4), "name": "error"}
    assert facts["pipeline_tag"] == "image-classification"
    # As the Hub's own parser reads it.
    read: Any = huggingface_hub.ModelCard(sent).data
    assert read.model_name == result["recipe"]
    found = {figure.metric_type: figure for figure in read.eval_results or []}
    assert found["error"].metric_value == figure["value"]
    assert found["accuracy"].metric_value == pytest.approx(1 - figure["value"] / 100, abs=1e-6)
    assert {(one.task_type, one.dataset_split) for one in found.values()} == {("image-classification", "test")}
    assert {one.dataset_type for one in found.values()} == {Path(result["data"]["source"]).name}
    assert str(Path(result["data"]["source"]).parent) not in header


def test_the_header_names_each_of_several_sources_and_no_folder(hub: Hub, redense: Run, run: Path, tmp_path: Path):
    shutil.copytree(run, folder := tmp_path / "run")
    (folder / "SHA256SUMS").unlink()
    result = json.loads((folder / "result.json").read_text())
    result["data"]["source"] = "/home/me/ours + hub:some/speech"
    (folder / "result.json").write_text(json.dumps(result))
    assert redense("export", folder, "hub:me/net")[0] == 0
    facts = yaml.safe_load(hub.files["README.md"].decode().split("---\n")[1])
    assert facts["model-index"][0]["results"][0]["dataset"]["name"] == "ours + some/speech"


@pytest.mark.parametrize("code", [401, 403])
def test_what_the_hub_refuses_is_one_line(hub: Hub, redense: Run, run: Path, code: int):
    hub.fails = code
    exit_code, out, err = redense("export", run, "hub:me/net")
    assert (exit_code, out, err.count("\n")) == (2, "", 1)
    assert "me/net was not published: " in err
    assert hub.files == {}


def test_mistakes_are_one_line(hub: Hub, redense: Run, run: Path, monkeypatch: pytest.MonkeyPatch):
    def said(*arguments: object) -> str:
        code, out, err = redense("export", *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1)
        return err

    assert "expected hub:OWNER/NAME" in said(run, "hub:net")
    assert "expected hub:OWNER/NAME" in said(run, "hub:me/../../net")
    assert "--private is for the Hub" in said(run, "out", "--private")
    assert "nowhere is no run folder" in said("nowhere", "hub:me/net")
    hub.server_close()
    hub.shutdown()
    assert "me/net was not published: " in said(run, "hub:me/net")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert "hf auth login" in said(run, "hub:me/net")
