"""Writing captions by beam search: all images at once, against one image at a time.

    python benchmarks/write_captions.py [--check] [--rounds 5] [--images 1000] [--beam 20]

The network is NeuralTalk at the paper's sizes (512, 512, 512; 2,538 words), untrained: every sentence is written
to its full 20 words, so that all contestants do the same work. ``one image`` is redense's own search with a batch of
one; ``NeuralTalk's loop`` is that of its ``predict``: one image and one beginning after the other. It is timed
on fewer images, and scaled. All three must write the same sentences.

The bar: 1,000 images at once take at most a tenth of the time of NeuralTalk's loop.
"""

from __future__ import annotations

import sys

import torch
from common import Bar, Contestant, Ratio, finish, measure, parser, ratio, table
from torch import Tensor

from redense.tasks.captioning.beam import write
from redense.tasks.captioning.config import CaptionModel
from redense.tasks.captioning.network import NeuralTalk

AT_MOST_LOOP = 0.1
FEATURES, WORDS, LONGEST = 4096, 2538, 20


def network() -> NeuralTalk:
    """Return a network that never ends a sentence of its own accord, and is sure enough that searches agree."""
    torch.manual_seed(0)
    made = NeuralTalk(FEATURES, WORDS, CaptionModel()).eval()
    with torch.no_grad():
        made.decoder.weight.mul_(10)
        made.decoder.bias[0] = -100.0
    return made


@torch.no_grad()
def neuraltalk_loop(model: NeuralTalk, features: Tensor, beam: int) -> list[list[int]]:
    """Write as imagernn/lstm_generator.py does: image by image, beginning by beginning."""
    said: list[list[int]] = []
    for own in features:
        beams = [(0.0, list[int](), model.look(own[None]))]
        for _ in range(LONGEST):
            candidates = []
            for score, words, state in beams:
                last = words[-1] if words else 0
                if words and last == 0:
                    candidates.append((score, words, state))
                    continue
                logits, after = model.next_words(torch.tensor([last]), state)
                chances, order = logits[0].log_softmax(-1).sort(descending=True)
                pairs = zip(chances[:beam].tolist(), order[:beam].tolist(), strict=True)
                candidates += [(score + chance, [*words, word], after) for chance, word in pairs]
            beams = sorted(candidates, key=lambda one: -one[0])[:beam]
        said.append(beams[0][1])
    return said


def at_once(model: NeuralTalk, features: Tensor, beam: int) -> list[list[int]]:
    """Write as the task does: as many images together as it evaluates together."""
    size = max(1, min(500, 20_000 // beam))
    return [row for part in features.split(size) for row in write(model, part, beam=beam, longest=LONGEST)[0].tolist()]


def one_by_one(model: NeuralTalk, features: Tensor, beam: int) -> list[list[int]]:
    """Write with batches of one image."""
    return [write(model, own[None], beam=beam, longest=LONGEST)[0][0].tolist() for own in features]


def main(arguments: list[str] | None = None) -> int:
    """Time the three, print, store; return the exit status."""
    options = parser(__doc__ or "", rounds=5)
    options.add_argument("--images", type=int, default=1000, help="images a round (default: 1000)")
    options.add_argument("--few", type=int, default=10, help="images of the slow loops, scaled (default: 10)")
    options.add_argument("--beam", type=int, default=20, help="width of the beam (default: 20)")
    given = options.parse_args(arguments)

    model = network()
    features = torch.rand(given.images, FEATURES, generator=torch.Generator().manual_seed(0))
    few = features[: given.few]
    together = at_once(model, features, given.beam)[: given.few]
    same = {
        "one image": one_by_one(model, few, given.beam) == together,
        "NeuralTalk's loop": neuraltalk_loop(model, few, given.beam) == together,
    }
    if not all(same.values()):
        print(f"the searches do not agree: {same}", file=sys.stderr)
        return 1
    seconds = measure(
        {
            "all at once": Contestant(lambda: at_once(model, features, given.beam)),
            "one image": Contestant(lambda: one_by_one(model, few, given.beam)),
            "NeuralTalk's loop": Contestant(lambda: neuraltalk_loop(model, few, given.beam)),
        },
        given.rounds,
    )
    scale = given.images / given.few
    seconds = {name: [s * (1 if name == "all at once" else scale) for s in times] for name, times in seconds.items()}
    table(f"{given.images} images, beam {given.beam}, {LONGEST} words", seconds, ("NeuralTalk's loop", "one image"))
    ratios: list[Ratio] = [ratio(seconds, "all at once", other) for other in ("NeuralTalk's loop", "one image")]
    return finish(
        "write_captions",
        given,
        settings={"images": given.images, "few": given.few, "beam": given.beam, "words": WORDS},
        seconds={"write": seconds},
        ratios=ratios,
        bars=[Bar(ratios[0], at_most=AT_MOST_LOOP)],
    )


if __name__ == "__main__":
    sys.exit(main())
