"""The verb of caption generation: captions of one's own pictures, by a trained network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redense.cli.terminal.printing import complain, say_json, say_line
from redense.cli.verbs import Verbs
from redense.errors import DataError, RedenseError

from .files import answered_pictures, recipe_for

if TYPE_CHECKING:
    from redense.tasks.captioning.captioner import Caption, Captioner


def register(verbs: Verbs) -> None:
    """Add the verbs of this module."""
    caption = verbs.add("caption", "write captions of pictures with the model of a run", _caption)
    caption.add_argument("run", help="a finished captioning run, its export, or hub:OWNER/NAME")
    caption.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them")
    caption.add_argument(
        "--beam", type=int, metavar="N", help="sentences kept while one is written (default: as the run)"
    )
    caption.add_argument(
        "--all", action="store_true", help="every sentence that the beam found, with its log probability"
    )
    caption.add_argument("--cnn", metavar="RUN", help="where the CNN lies now, if not where the recipe says")
    caption.add_argument("--json", action="store_true", help="print a JSON object an image, a line each")


def _caption(options: argparse.Namespace) -> int:
    if options.beam is not None and not 1 <= options.beam <= 100:
        raise RedenseError(f"--beam is a number of sentences from 1 to 100, got {options.beam}")
    from redense.lab.runs.trained import find_trained

    folder = find_trained(options.run)
    recipe = recipe_for("caption", folder, options.run)
    from redense.tasks.captioning.captioner import open_captioner
    from redense.tasks.captioning.config import CaptionData, CaptionModel

    data, model = recipe.data, recipe.model
    if not isinstance(data, CaptionData) or not isinstance(model, CaptionModel):
        raise RedenseError(f"{options.run} is no run of captioning")
    if options.cnn:
        data = data.model_copy(update={"features": data.features.model_copy(update={"weights": options.cnn})})
    captioner = open_captioner(folder, data, model)
    failed, empty = False, 0

    def captions(pictures: list[Any]) -> list[list[Caption] | str]:
        return _captions_of(captioner, pictures, options.beam)

    for path, found in answered_pictures(options.images, captions):
        if isinstance(found, str):
            failed = True
            complain(f"{path} {found}")
        else:
            empty += not found[0].text
            if not options.json:
                _print(path, found, everything=options.all)
        if options.json:
            said = {"error": found} if isinstance(found, str) else _plain(found, everything=options.all)
            say_json({"image": str(path), **said})
    if empty:
        which = "a caption has" if empty == 1 else f"{empty:,} captions have"
        complain(
            f"{which} no word: the network finds it likeliest that a sentence ends at once; train it for longer",
            before="note: ",
        )
    return 2 if failed else 0


def _captions_of(captioner: Captioner, pictures: list[Any], beam: int | None) -> list[list[Caption] | str]:
    """Return the captions of each picture, or why the network cannot look at it."""
    try:
        return list(captioner.captions(pictures, beam=beam))
    except DataError as error:
        if len(pictures) == 1:
            return [f"cannot be captioned ({error})"]
        return [one for picture in pictures for one in _captions_of(captioner, [picture], beam)]


def _plain(found: list[Caption], *, everything: bool) -> dict[str, Any]:
    best, *others = ({"caption": one.text, "log_probability": round(one.log_probability, 4)} for one in found)
    return {**best, "others": others} if everything else best


def _print(path: Path, found: list[Caption], *, everything: bool) -> None:
    say_line(f"{path}: {found[0].text}")
    if everything:
        for one in found:
            say_line(f"  {one.log_probability:8.2f}  {one.text}")
