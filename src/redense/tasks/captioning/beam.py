"""Writing sentences: the most likely one that a beam of a given width finds, for many images at once."""

from __future__ import annotations

import torch
from torch import Tensor

from .network import NeuralTalk


def write(network: NeuralTalk, features: Tensor, *, beam: int = 1, longest: int = 20) -> tuple[Tensor, Tensor]:
    """Return a sentence for each image, and its log probability; see `write_all`.

    Returns:
        words: int64 (b, longest), 0 ends a sentence and pads it.
        log_probabilities: (b,).
    """
    words, scores = write_all(network, features, beam=beam, longest=longest)
    return words[:, 0], scores[:, 0]


@torch.no_grad()
def write_all(network: NeuralTalk, features: Tensor, *, beam: int = 1, longest: int = 20) -> tuple[Tensor, Tensor]:
    """Return the sentences that the beam holds in the end for each image, the most likely first.

    As in NeuralTalk: the ``beam`` most likely beginnings are kept, a sentence that has ended stays among them as it
    is, lengths are not made up for, and after ``longest`` words whatever is best is given.

    Args:
        network: in evaluation mode.
        features: (b, d).
        beam: beginnings that are kept; 1 is greedy.
        longest: words, with the end.

    Returns:
        words: int64 (b, beam, longest), 0 ends a sentence and pads it.
        log_probabilities: (b, beam).
    """
    b, device = len(features), features.device
    state = network.look(features)
    words = torch.zeros(b, 1, 0, dtype=torch.long, device=device)
    scores = torch.zeros(b, 1, device=device)
    ended = torch.zeros(b, 1, dtype=torch.bool, device=device)
    last = torch.zeros(b, 1, dtype=torch.long, device=device)
    for step in range(longest):
        width = last.shape[1]
        logits, state = network.next_words(last.flatten(), state)
        following = logits.float().log_softmax(-1).view(b, width, -1)
        size = following.shape[-1]
        if step:
            # A sentence that has ended is one candidate: itself, by way of the end again at no cost.
            following = following.masked_fill(ended.unsqueeze(-1), -torch.inf)
            following[..., 0] = following[..., 0].masked_fill(ended, 0.0)
        scores, chosen = (scores.unsqueeze(-1) + following).flatten(1).topk(min(beam, width * size), dim=1)
        parent, last = chosen // size, chosen % size
        rows = (parent + width * torch.arange(b, device=device).unsqueeze(1)).flatten()
        state = state[0][rows], state[1][rows]
        words = torch.cat([words.gather(1, parent.unsqueeze(-1).expand(-1, -1, step)), last.unsqueeze(-1)], dim=-1)
        ended = last == 0
        if ended.all():
            break
    return torch.nn.functional.pad(words, (0, longest - words.shape[-1])), scores  # topk: the most likely first
