"""Publishing a run's model on the Hugging Face Hub: what `export_run` writes, and a header that the Hub understands."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from redense.errors import MissingExtraError, RedenseError
from redense.files.writing import write_text
from redense.lab.folder import read_json
from redense.tasks.metrics import shown_name
from redense.tasks.registry import tasks

from .export import export_run
from .formats import Compared
from .trained import HUB


class PublishError(RedenseError, RuntimeError):
    """The Hub does not take the model, or cannot be reached."""


def publish_run(
    folder: Path,
    target: str,
    *,
    private: bool = False,
    form: str = "safetensors",
    data: str | None = None,
    tell: Callable[[Compared], None] = lambda compared: None,
) -> str:
    """Upload what a user of a run's model needs to ``hub:OWNER/NAME`` in one commit, and return its address.

    Who publishes is known from ``HF_TOKEN`` or ``hf auth login``; ``HF_ENDPOINT`` names another Hub. A repository that
    exists gets a new commit. ``form``, ``data`` and ``tell`` are those of `export_run`.

    Raises:
        PublishError: no such owner, no right, or no network.
        StateError: the run is not finished.
    """
    name = HUB.fullmatch(target)
    if name is None:
        raise PublishError(f"cannot publish to '{target}': expected hub:OWNER/NAME, as in hub:somebody/my-network")
    try:
        import huggingface_hub
        from huggingface_hub import constants
    except ImportError:
        raise MissingExtraError("publishing needs huggingface_hub: pip install 'redense[hub]'") from None
    repository = name["repository"]
    if huggingface_hub.get_token() is None:
        raise PublishError(
            "nobody is logged in to the Hub: run `hf auth login`, or set HF_TOKEN to a token that may write"
        )
    with tempfile.TemporaryDirectory() as place:
        out = export_run(folder, Path(place) / "model", form, data=data, tell=tell)
        card = out / "README.md"
        header = _header(read_json(out / "result.json"))
        write_text(card, header + card.read_text(encoding="utf-8"))
        try:
            api = huggingface_hub.HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repository, folder_path=out, commit_message=f"Model of the redense run {folder.name}"
            )
        except Exception as error:  # the Hub's own, and those of whichever HTTP library it uses
            reason = " ".join(str(error).split())[:300]
            raise PublishError(f"{repository} was not published: {reason}") from error
    return f"{constants.ENDPOINT}/{repository}"


def _header(result: dict[str, Any]) -> str:
    """Return the card's header: what the Hub's search and tables show."""
    metric, last = result["metric"], result["phases"][-1]
    names = [metric["name"], *(name for name in last["test"] if name not in (metric["name"], "loss"))]
    figures = [
        {"type": name, "value": round(last["test"][name], 4), "name": shown_name(name)}
        for name in names
        if math.isfinite(last["test"][name])
    ]
    if metric["name"] == "error":  # the Hub's tables know accuracy, as a fraction
        accuracy = round(1 - last["test"]["error"] / 100, 6)
        figures.insert(1, {"type": "accuracy", "value": accuracy, "name": "accuracy"})
    task = tasks().get(result["task"])
    tag = task.tag if task else ""
    kind = {"type": tag or result["task"], "name": result["task"]}
    source = str((result.get("data") or {}).get("source") or result["recipe"])
    # Where the data lies on this machine is nobody's affair.
    parts = source.split(" + ")  # of several
    source = " + ".join(one.removeprefix("hub:") if one.startswith("hub:") else Path(one).name for one in parts)
    dataset = {"name": source, "type": source, "split": "test"}
    head = {
        "library_name": "pytorch",
        "tags": ["redense", "dense-sparse-dense", "pruning", "pytorch"],
        **({"pipeline_tag": tag} if tag else {}),
        "model-index": [
            {"name": result["recipe"], "results": [{"task": kind, "dataset": dataset, "metrics": figures}]}
        ],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n"
