"""The Hugging Face Trainer: a small GPT-2 learns the bytes of Python's own library, to 2.0 nats each. 40 s of one core.

python examples/with_transformers.py
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from redense.integrations.transformers import DSDTrainerCallback  # redense

# isort: split
import torch
from common import DENSE, REDENSE, SPARSE, STEPS
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import redense  # redense


def sentences(first: int, last: int) -> Any:
    """Return so many lines of 64 bytes of Python's standard library."""
    source = b"".join(path.read_bytes() for path in sorted(Path(os.__file__).parent.glob("*.py"))[:60])
    lines = torch.frombuffer(bytearray(source), dtype=torch.uint8)[first * 64 : last * 64].view(-1, 64).long()
    return [{"input_ids": line, "labels": line} for line in lines]


def main() -> None:
    torch.manual_seed(0)
    # --8<-- [start:loop]
    model = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=64, n_embd=64, n_layer=2, n_head=4))
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        max_steps=STEPS,
        learning_rate=2e-3,
        lr_scheduler_type="constant",
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        save_strategy="no",
        logging_steps=50,
        report_to=[],
    )
    trainer = Trainer(model, arguments, train_dataset=sentences(0, 8000), eval_dataset=sentences(8000, 8400))
    schedule = redense.Schedule.dsd(dense=DENSE, sparse=SPARSE, redense=REDENSE, sparsity=0.3)  # redense
    trainer.add_callback(DSDTrainerCallback(schedule, scale_lr=True))  # redense
    trainer.train()
    trainer.save_model()
    # --8<-- [end:loop]
    print(f"loss on held-out bytes {trainer.evaluate()['eval_loss']:.3f}")


if __name__ == "__main__":
    main()
