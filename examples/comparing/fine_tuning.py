"""A pretrained transformer, fine-tuned in a plain loop: does DSD help where training begins from good weights?

python examples/comparing/fine_tuning.py MAILS, with the folder that examples/comparing/spam.py takes. A small BERT over
bytes first learns to fill gaps in the mails for training, without their labels (some minutes, once); then it is
fine-tuned on 400 mails with labels, with DSD and beside its controls. With `--quick` a few made-up mails do.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

import redense

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import QUICK, mails

OUT = Path("runs/fine-tuning")
PRETRAINED = Path("runs/pretrained-on-mails.safetensors")
LENGTH = 16 if QUICK else 128  # bytes of a mail that are read
LABELLED = 16 if QUICK else 400  # mails with labels; all those for training are there without
GAPS = 3 if QUICK else 4000  # steps of learning to fill gaps
DENSE, SPARSE, REDENSE = (4, 2, 2) if QUICK else (200, 100, 100)
SEEDS, JOBS = (2, 1) if QUICK else (20, 2)
GAP = 256  # the token after all bytes
CONFIG = BertConfig(
    vocab_size=257, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256,
    max_position_embeddings=LENGTH,
)  # fmt: skip


def examples() -> list[tuple[Tensor, Tensor]]:
    """Return bytes and labels of the mails for training, validation and test: (mails, LENGTH) and (mails,)."""
    rows = mails()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    read = torch.tensor([list(text[:LENGTH].ljust(LENGTH, b" ")) for text, _ in rows])[order]
    labels = torch.tensor([unwanted for _, unwanted in rows])[order]
    cuts = [0, int(0.5 * len(rows)), int(0.7 * len(rows)), len(rows)]
    return [(read[low:high], labels[low:high]) for low, high in itertools.pairwise(cuts)]


def pretrained() -> dict[str, Tensor]:
    """Return the weights of the encoder after it learned to fill gaps, trained the first time."""
    if not PRETRAINED.exists():
        torch.manual_seed(0)
        (texts, _), *_ = examples()
        model = BertForMaskedLM(CONFIG)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=GAPS)
        for step in range(GAPS):
            text = texts[torch.randint(0, len(texts), (32,))]
            hidden = torch.rand(text.shape) < 0.15
            loss = model(text.masked_fill(hidden, GAP), labels=text.masked_fill(~hidden, -100)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            if (step + 1) % (GAPS // 3) == 0:
                print(
                    f"step {step + 1} of {GAPS}: gaps are filled with a loss of {loss.item():.2f} nats a byte",
                    flush=True,
                )
        PRETRAINED.parent.mkdir(exist_ok=True)
        save_file(model.bert.state_dict(), PRETRAINED)
    return load_file(PRETRAINED)


# --8<-- [start:train]
def train(schedule: redense.Schedule, seed: int, start: dict[str, Any] | None = None) -> dict[str, Any]:
    """Fine-tune with a seed, or go on from the end of a shared phase, and return errors in % and what to go on from."""
    (texts, labels), validation, test = examples()
    torch.manual_seed(seed)
    model = BertForSequenceClassification(CONFIG)
    model.bert.load_state_dict(pretrained(), strict=False)  # the last layer, and the one before it, are new
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)
    if start is not None:
        model.load_state_dict(start["model"])
        torch.set_rng_state(start["random"])
    redense.DSD(model, optimizer, schedule)
    for step in range(schedule.total_steps):
        optimizer.param_groups[0]["lr"] = 5e-4 * schedule.lr_factor(step)
        batch = torch.randint(0, LABELLED, (16,))
        optimizer.zero_grad()
        functional.cross_entropy(model(texts[batch]).logits, labels[batch]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    state = {"model": model.state_dict(), "random": torch.get_rng_state()}
    return {"validation_error": error(model, *validation), "test_error": error(model, *test), "state": state}


# --8<-- [end:train]


@torch.no_grad()
def error(model: BertForSequenceClassification, texts: Tensor, labels: Tensor) -> float:
    model.eval()
    wrong = [
        (model(text).logits.argmax(1) != label).sum()
        for text, label in zip(texts.split(250), labels.split(250), strict=True)
    ]
    model.train()
    return 100 * float(sum(wrong)) / len(labels)


def main() -> None:
    pretrained()
    # --8<-- [start:compare]
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)
    arms = ("dsd", "dsd-iter", "random", "restart", "llr", "longer")
    print(redense.compare(train, schedule, arms=arms, seeds=SEEDS, out=OUT, share="dense", jobs=JOBS))
    # --8<-- [end:compare]


if __name__ == "__main__":
    main()
