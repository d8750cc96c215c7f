"""The server of pages: it lists what there is, follows what goes on, answers this machine alone, and no path."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scan_samples import write_scan

from redense.errors import AddressError, DataError
from redense.files.locks import locked
from redense.report.pages import page_of
from redense.report.paper.browser import BrowserPage
from redense.report.runs.reading import read_run
from redense.report.server.listing import entry, found, grid_page, part_done, signature
from redense.report.server.serving import Server, serve

RECIPE = "name: tiny\ntask: classification\nseed: 0\ndense: {epochs: 2}\nsparse: {epochs: 1}\nredense: {epochs: 1}\n"


def line(step: int, epoch: float, phase: int = 0, **more: Any) -> str:
    """A line of a log: ten steps are an epoch."""
    kind = "epoch" if more else "step"
    plain = {"kind": kind, "phase": ("dense", "sparse", "redense")[phase], "phase_index": phase, "step": step}
    return json.dumps({**plain, "epoch": epoch, "loss": 1.0, "lr": 0.1, **more}) + "\n"


EPOCH = {"train_loss": 0.9, "validation": {"error": 20.0, "loss": 0.9}, "sparsity": 0.0, "seconds": 1.0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Runs: one that goes on, one damaged, and what is none."""
    runs = tmp_path / "runs"
    alive = runs / "group" / "alive"
    alive.mkdir(parents=True)
    (alive / "recipe.yaml").write_text(RECIPE)
    (alive / "metrics.jsonl").write_text(line(5, 0.5) + line(10, 1.0, **EPOCH) + line(15, 1.5))
    (runs / "broken").mkdir()
    (runs / "broken" / "compare.json").write_text("{")
    (runs / "store" / "ab" / "abcd").mkdir(parents=True)
    (runs / "store" / "ab" / "abcd" / "metrics.jsonl").write_text("")
    (tmp_path / "secret.txt").write_text("secret")
    return runs


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    with serve(root, 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def get(server: Server) -> Callable[..., tuple[int, str]]:
    def ask(path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode().replace("\u00a0", " ").replace("\\u00a0", " ")
        connection.close()
        return answer.status, text

    return ask


def test_the_list_names_every_run_and_says_what_is_wrong_with_a_damaged_one(get):
    status, text = get("/")
    assert status == 200
    assert 'href="/page/group/alive"' in text
    assert "its log ends in phase 1 of 3, dense, after 15 optimizer steps" in text
    assert "running" in text
    assert "37.5" in text  # 1.5 of 4 epochs
    assert "damaged" in text
    assert "compare.json is not valid JSON" in text
    assert "abcd" not in text  # a phase of the store


def test_a_page_that_goes_on_may_ask_this_server_and_nobody_else(get):
    status, text = get("/page/group/alive")
    assert status == 200
    assert "connect-src &#x27;self&#x27;" in text
    assert "default-src &#x27;none&#x27;" in text


def test_what_is_new_is_told_once(get, root):
    status, text = get("/page/group/alive?since=")
    parts = json.loads(text)
    assert (status, parts["over"]) == (200, False)
    assert "after 15 optimizer steps" in parts["sections"]["verdict"]
    assert parts["plots"]["curves"]["data"][0]["x"] == [5, 15]
    again = f"/page/group/alive?since={parts['version']}"
    assert get(again) == (204, "")
    with (root / "group" / "alive" / "metrics.jsonl").open("a") as log:
        log.write(line(20, 2.0, **EPOCH))
    status, text = get(again)
    assert status == 200
    assert "after 20 optimizer steps" in json.loads(text)["sections"]["verdict"]


@pytest.mark.parametrize(
    "path",
    [
        "/page/../secret.txt",
        "/page/..%2f..%2fsecret.txt",
        "/page/%2e%2e/%2e%2e/secret.txt",
        "/page//etc/passwd",
        "/page/group/alive/metrics.jsonl",
        "/page/group/alive/../../../secret.txt",
        "/page/group\\alive",
        "/page/",
        "/etc/passwd",
        "/../secret.txt",
        "/page/group/alive%00",
        "//secret.txt",
    ],
)
def test_no_path_leads_out_of_what_is_listed(get, path):
    status, text = get(path)
    assert status == 404
    assert "secret" not in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("compare.json", "[" * 100_000),
        ("comparison.json", '{"recipe": "text"}'),
        ("comparison.json", '{"recipe": {"name": {"a": 1}}}'),
        ("sensitivity.json", '{"scan": {"curves": 3}}'),
        ("recipe.yaml", "dense: 3\nsparse: [1]\n"),
    ],
)
def test_one_folder_that_cannot_be_read_does_not_take_the_list_down(name: str, text: str, get, root):
    (root / "odd").mkdir()
    (root / "odd" / name).write_text(text)
    (root / "odd" / "grid.json").write_text(json.dumps({"store": "a\0b", "cells": [{"arm": "x", "phases": 3}]}))
    status, page = get("/")
    assert status == 200
    assert "group/alive" in page
    assert "odd" in page
    assert get("/page/odd")[0] == 200
    assert get("/page/group/alive")[0] == 200


def test_two_hundred_requests_at_once_are_all_answered(server):
    sockets = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(200)]
    for one in sockets:
        one.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\n\r\n".encode())
    answers = [one.recv(12) for one in sockets]
    for one in sockets:
        one.close()
    assert set(answers) == {b"HTTP/1.1 200"}


def test_a_page_of_elsewhere_that_has_a_name_lead_here_is_refused(get, server):
    assert get("/", Host="evil.example")[0] == 403
    assert get("/", Host=f"evil.example:{server.port}")[0] == 403
    assert get("/", Host=f"localhost:{server.port}")[0] == 200


def test_it_listens_at_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_an_error_and_without_one_the_next_is_tried(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=rf"port {port} cannot be served at: .*; name another with --port"):
            serve(root, port)
    with pytest.raises(DataError, match="no folder 'nowhere'"):
        serve(Path("nowhere"))


def test_a_run_that_is_given_itself_is_the_only_one_listed(root):
    assert list(found(root / "group" / "alive")) == ["alive"]
    assert list(found(root)) == ["broken", "group/alive"]


def test_what_a_search_has_tried_is_finished_once_the_search_is(root):
    tried = root / "wanted" / "search"
    tried.mkdir(parents=True)
    (tried / "comparison.json").write_text(json.dumps({"recipe": {"name": "tiny"}}))
    assert entry("wanted/search", tried).state != "finished"
    (root / "wanted" / "search.json").write_text("{}")
    assert entry("wanted/search", tried).state == "finished"
    with pytest.raises(DataError, match=r"is what a search has tried: its page is that of .*wanted/confirm"):
        page_of(tried)


def test_how_much_is_trained_counts_the_epochs_of_all_phases(root):
    run = root / "group" / "alive"
    assert part_done(read_run(run)) == pytest.approx(1.5 / 4)
    with (run / "metrics.jsonl").open("a") as log:
        log.write(line(20, 2.0, **EPOCH) + line(30, 1.0, 1, **EPOCH))
    assert part_done(read_run(run)) == pytest.approx(3 / 4)
    (run / "metrics.jsonl").write_text(line(0, 0.0, **EPOCH) + line(10, 1.0, 1, **EPOCH))
    assert part_done(read_run(run)) == pytest.approx(
        1 / 2
    )  # the weights that stand for the first phase count for nothing
    (run / "recipe.yaml").write_text("name: tiny")
    assert part_done(read_run(run)) is None


def test_a_comparison_that_goes_on_is_listed_with_its_runs_from_the_store(tmp_path):
    folder, store = tmp_path / "comparison", tmp_path / "store"
    for key, text in (("aa11", None), ("bb22", "[30, 60]")):
        place = store / key[:2] / key
        place.mkdir(parents=True)
        (place / ("progress.json" if text else "state.safetensors")).write_text(text or "")
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps({"recipe": {"name": "tiny"}}))
    cells = [
        {"arm": "baseline", "seed": 0, "phases": [["aa11", 40]]},
        {"arm": "dsd", "seed": 0, "phases": [["aa11", 40], ["bb22", 60]]},
    ]
    (folder / "grid.json").write_text(json.dumps({"store": str(store), "cells": cells}))
    row = entry("comparison", folder)
    assert row.title == "tiny"
    assert row.says.replace("\u00a0", " ") == "1 of 2 runs trained."
    assert row.done == pytest.approx((40 + 70) / 140)
    assert row.state == "running"
    page = grid_page("comparison", folder).html()
    assert 'scope="row">dsd</th><td class="number">70\u00a0%</td>' in page
    assert "This comparison has not finished: 1 of 2\u00a0runs trained." in page
    (folder / "grid.json").write_text(json.dumps({"store": str(store), "cells": [{"phases": [["../..", 1]]}]}))
    assert entry("comparison", folder).done is None


def test_a_comparison_of_a_training_of_ones_own_is_listed_with_its_pairs(tmp_path: Path):
    folder = tmp_path / "mine"
    plan = {"form": "function", "name": "train", "arms": [{"name": "baseline"}, {"name": "dsd"}], "seeds": [0, 7]}
    for place in ("pairs/dsd/7", "pairs/dsd/0"):
        (folder / place).mkdir(parents=True)
    (folder / "comparison.json").write_text(json.dumps(plan))
    (folder / "pairs/dsd/7/result.json").write_text("{}")
    row, before = entry("mine", folder), signature(folder)
    assert (row.title, row.says.replace("\u00a0", " "), row.done) == ("train", "1 of 4 runs trained.", 1 / 4)
    assert 'scope="row">dsd</th><td class="number">0\u00a0%</td>' in grid_page("mine", folder).html()
    (folder / "pairs/dsd/0/result.json").write_text("{}")
    assert signature(folder) != before
    with pytest.raises(DataError, match=r"has not finished: go on with: the call or command that began it, with the s"):
        page_of(folder)
    (folder / "comparison.json").write_text(json.dumps({**plan, "settings": {"runs": 60}}))
    assert entry("mine", folder).says.replace("\u00a0", " ") == "2 runs of a search trained, which takes 60 at most."
    with locked(folder):
        os.utime(folder / "comparison.json", (0, 0))
        assert entry("mine", folder).state == "running"
    assert entry("mine", folder).state == "not finished"


@pytest.mark.timeout(600)
def test_browser_follows_a_run_that_goes_on_and_asks_nobody_else(server, root, look):
    page: BrowserPage = look(f"{server.address}page/group/alive")
    with (root / "group" / "alive" / "metrics.jsonl").open("a") as log:
        log.write(line(20, 2.0, **EPOCH) + line(30, 1.0, 1, **EPOCH))
    seen = page.run("""new Promise((done) => {
      const plot = document.getElementById("curves"), began = Date.now();
      const watch = () => plot.data[1].x.length > 1 || Date.now() - began > 100000
        ? done([plot.data[1].x, document.querySelector(".sentence").textContent]) : setTimeout(watch, 50);
      watch();
    })""")
    assert seen[0] == [10, 20, 30]
    assert "its log ends in phase 2 of 3, sparse, after 30 optimizer steps" in seen[1].replace("\u00a0", " ")
    write_scan(root / "group" / "alive" / "sensitivity")  # a section that was not there
    order = page.run("""new Promise((done) => {
      const began = Date.now();
      const watch = () => document.querySelector("#sensitivities .main-svg") || Date.now() - began > 100000
        ? done([...document.querySelectorAll("main > section")].map((section) => section.id)) : setTimeout(watch, 50);
      watch();
    })""")
    assert order == ["verdict", "phases", "curves-section", "layers-section", "sensitivity", "provenance"]
    asked = {e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"}
    assert all(url.startswith((server.address, "data:", "blob:")) for url in asked)
    assert not [e for e in page.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]


@pytest.mark.parametrize("arms", [["baseline", "dsd"], [{"name": "baseline"}, {"name": "dsd"}]])
def test_a_comparison_to_which_something_was_added_is_not_finished(tmp_path: Path, arms: list[Any]):
    rows = [
        {"arm": arm, "steps": 9, "gradients": None, "phases": [], "mean": mean, "interval": None,
         "seeds": [{"seed": 0, "test": {"error": mean}}]}
        for arm, mean in (("baseline", 31.0), ("dsd", 30.0))
    ]  # fmt: skip
    results = {"recipe": "t", "metric": {"name": "error"}, "seeds": [0], "rows": rows, "comparisons": []}
    (tmp_path / "compare.json").write_text(json.dumps(results))
    asked = {"seeds": [0], "arms": arms}
    for more in ({}, {"seeds": [0, 1]}, {"arms": [*arms, "x"]}):
        (tmp_path / "comparison.json").write_text(json.dumps({**asked, **more}))
        row = entry("a", tmp_path)
        assert (row.state == "finished", row.title) == (not more, "t")
        assert row.says.startswith("More seeds or arms were added; before: One seed was run") == bool(more)
