"""The callback of the Hugging Face Trainer: a transformer, its learning rates, its checkpoints."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from redense import Schedule
from redense.errors import OptimizerError, ParameterError, ScheduleError, StateError

transformers = pytest.importorskip("transformers")

from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments  # noqa: E402  # after importorskip

from redense.integrations.transformers import FILE, DSDTrainerCallback  # noqa: E402  # after importorskip

# transformers' advice about the loss type and pinned memory, and what it still calls of its own deprecations.
pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.filterwarnings("ignore::FutureWarning")]

SCHEDULE = Schedule.dsd(dense=2, sparse=3, redense=2, sparsity=0.5)


def gpt() -> Any:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=17, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )


def sentences(count: int) -> Any:
    tokens = torch.randint(17, (count, 6), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": line, "labels": line} for line in tokens]


class Rates(TrainerCallback):
    """The learning rate, and the zeros of one weight, after every step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.zeros: list[int] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        weight = kwargs["model"].transformer.h[0].mlp.c_fc.weight  # of a Conv1D, (8, 32)
        self.zeros.append(int((weight == 0).sum()))
        self.rates.append(kwargs["optimizer"].param_groups[0]["lr"])


class Until(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = control.should_training_stop or state.global_step >= self.step


def trainer(
    folder: Path, callbacks: list[Any], *, optimizers: Any = (None, None), model: Any = None, **more: Any
) -> Any:
    arguments = {
        "output_dir": str(folder),
        "max_steps": 7,
        "per_device_train_batch_size": 2,
        "learning_rate": 0.01,
        "lr_scheduler_type": "constant",
        "save_steps": 1,
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    }
    return Trainer(
        model or gpt(),
        TrainingArguments(**(arguments | more)),
        train_dataset=sentences(28),
        eval_dataset=sentences(4),
        callbacks=callbacks,
        optimizers=optimizers,
    )


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert list(one) == list(two)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A training without an interruption, with its checkpoints."""
    seen = Rates()
    training = trainer(tmp_path_factory.mktemp("whole"), [DSDTrainerCallback(SCHEDULE, scale_lr=True), seen])
    training.train()
    training.seen = seen
    return training


def test_a_transformer_is_fine_tuned_dense_sparse_dense_and_its_log_says_so(whole: Any):
    assert whole.seen.zeros == [0, 128, 128, 128, 128, 0, 0]
    logs = [(entry["dsd/phase"], entry["dsd/sparsity"]) for entry in whole.state.log_history if "loss" in entry]
    # After the step: the phase of the next one.
    assert logs == [(0, 0), (1, 0.5), (1, 0.5), (1, 0.5), (2, 0), (2, 0), (3, 0)]


def test_the_learning_rate_is_the_trainers_times_the_schedules(whole: Any, tmp_path: Path):
    assert whole.seen.rates == pytest.approx([0.01] * 4 + [0.001] * 3)
    seen = Rates()
    trainer(tmp_path, [DSDTrainerCallback(SCHEDULE), seen], save_strategy="no").train()
    assert seen.rates == pytest.approx([0.01] * 7)
    seen = Rates()
    warm = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2}
    trainer(tmp_path, [DSDTrainerCallback(SCHEDULE, scale_lr=True), seen], save_strategy="no", **warm).train()
    assert seen.rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001])


def test_a_scheduler_that_follows_the_schedule_is_not_scaled_twice(tmp_path: Path):
    model = gpt()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    own = torch.optim.lr_scheduler.LambdaLR(optimizer, SCHEDULE.lr_factor)
    with pytest.raises(ScheduleError, match=r"follows schedule\.lr_factor already"):
        trainer(
            tmp_path, [DSDTrainerCallback(SCHEDULE, scale_lr=True)], model=model, optimizers=(optimizer, own)
        ).train()
    other = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.raises(ScheduleError, match=r"scale_lr multiplies a LambdaLR.*, not a StepLR"):
        trainer(
            tmp_path, [DSDTrainerCallback(SCHEDULE, scale_lr=True)], model=model, optimizers=(optimizer, other)
        ).train()


def test_a_scheduler_of_ones_own_is_scaled_once_however_often_it_trains(tmp_path: Path):
    model = gpt()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    own = torch.optim.lr_scheduler.LambdaLR(optimizer, constant := lambda step: 1.0)
    seen = Rates()
    callbacks = [DSDTrainerCallback(SCHEDULE, scale_lr=True), seen]
    training = trainer(tmp_path, callbacks, model=model, optimizers=(optimizer, own), save_strategy="no")
    for _ in range(2):
        training.train()
        assert own.lr_lambdas == [constant]
    assert seen.rates == pytest.approx(([0.01] * 4 + [0.001] * 3) * 2)


def test_what_it_saves_is_the_plain_model(whole: Any, tmp_path: Path):
    whole.save_model(str(tmp_path))
    loaded, info = cast("Any", GPT2LMHeadModel).from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert_same(weights(loaded), weights(whole.model))
    sparse: Any = GPT2LMHeadModel.from_pretrained(Path(whole.args.output_dir) / "checkpoint-4")
    assert int((sparse.transformer.h[0].mlp.c_fc.weight == 0).sum()) == 128


@pytest.mark.parametrize("kill", [pytest.param(1, marks=pytest.mark.slow), 4, pytest.param(6, marks=pytest.mark.slow)])
def test_it_resumes_in_every_phase_with_the_same_bits(whole: Any, tmp_path: Path, kill: int):
    callback = DSDTrainerCallback(SCHEDULE, scale_lr=True)
    trainer(tmp_path, [callback, Until(kill)]).train()
    assert callback.dsd is None
    again = trainer(tmp_path, [DSDTrainerCallback(SCHEDULE, scale_lr=True)])
    again.train(resume_from_checkpoint=True)
    assert_same(weights(again.model), weights(whole.model))


def test_it_resumes_from_another_folder_that_it_is_told(whole: Any, tmp_path: Path):
    moved = tmp_path / "moved" / "checkpoint-4"
    shutil.copytree(Path(whole.args.output_dir) / "checkpoint-4", moved)
    lost = trainer(tmp_path / "new", [DSDTrainerCallback(SCHEDULE, scale_lr=True)])
    with pytest.raises(
        StateError, match=r"no redense.pt of the checkpoint of step 4 in .*checkpoint-4: give its folder"
    ):
        lost.train(resume_from_checkpoint=str(moved))
    # The masks of another training of the same step are not taken for its own.
    (tmp_path / "new" / "checkpoint-4").mkdir(parents=True)
    other = torch.load(moved / FILE, weights_only=True) | {"saved": "of another"}
    torch.save(other, tmp_path / "new" / "checkpoint-4" / FILE)
    with pytest.raises(StateError, match=r"no redense.pt of the checkpoint of step 4"):
        trainer(tmp_path / "new", [DSDTrainerCallback(SCHEDULE, scale_lr=True)]).train(
            resume_from_checkpoint=str(moved)
        )
    told = DSDTrainerCallback(SCHEDULE, scale_lr=True, resume_from_checkpoint=moved)
    again = trainer(tmp_path / "new", [told])
    again.train(resume_from_checkpoint=str(moved))
    assert_same(weights(again.model), weights(whole.model))
    (moved / FILE).write_bytes(b"PK")
    with pytest.raises(StateError, match=r"redense.pt is damaged"):
        trainer(tmp_path / "new2", [DSDTrainerCallback(SCHEDULE, resume_from_checkpoint=moved)]).train(
            resume_from_checkpoint=str(moved)
        )


def test_the_trainer_may_restore_the_callback_itself(whole: Any, tmp_path: Path):
    trainer(tmp_path, [DSDTrainerCallback(SCHEDULE, exclude="transformer.wte*", scale_lr=True), Until(4)]).train()
    other = DSDTrainerCallback(Schedule.dsd(dense=1, sparse=1, redense=1, sparsity=0.1))
    again = trainer(tmp_path, [other], restore_callback_states_from_checkpoint=True)
    again.train(resume_from_checkpoint=True)
    assert_same(weights(again.model), weights(whole.model))
    told = DSDTrainerCallback(SCHEDULE, scale_lr=True, resume_from_checkpoint=tmp_path / "checkpoint-4")
    lost = trainer(tmp_path / "elsewhere", [told], restore_callback_states_from_checkpoint=True)
    (tmp_path / "checkpoint-4" / FILE).rename(tmp_path / "moved")
    with pytest.raises(StateError, match="leave restore_callback_states_from_checkpoint out: by it the Trainer makes"):
        lost.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_what_the_trainer_writes_with_sorted_keys_is_the_same_schedule():
    schedule = Schedule.dsd(dense=2, sparse=3, redense=2, sparsity={"mid.*": 0.8, "*": 0.2})
    kept = json.loads(json.dumps(DSDTrainerCallback(schedule).state(), sort_keys=True))
    (sparse,) = (phase for phase in DSDTrainerCallback(**kept["args"]).schedule.phases if phase.is_sparse)
    assert isinstance(sparse.sparsity, dict)
    assert list(sparse.sparsity.items()) == [("mid.*", 0.8), ("*", 0.2)]


def test_an_example_of_the_inputs_is_followed_and_is_not_kept_in_a_checkpoint(tmp_path: Path):
    inputs = {"input_ids": torch.ones(1, 4, dtype=torch.long)}
    trainer(tmp_path, [DSDTrainerCallback(SCHEDULE, inputs=inputs), Until(4)]).train()
    resumed = trainer(tmp_path, [DSDTrainerCallback(SCHEDULE, inputs=inputs)])
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 7
    lost = trainer(tmp_path, [DSDTrainerCallback(SCHEDULE)], restore_callback_states_from_checkpoint=True)
    with pytest.raises(StateError, match="a checkpoint does not keep the inputs of DSDTrainerCallback: leave out"):
        lost.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


def test_a_checkpoint_without_redense_is_where_it_starts(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    trainer(tmp_path, [Until(3)]).train()
    seen = Rates()
    again = trainer(tmp_path, [DSDTrainerCallback(SCHEDULE, scale_lr=True), seen], max_steps=10)
    with caplog.at_level(logging.WARNING, logger="redense"):
        again.train(resume_from_checkpoint=True)
    assert "resumed at step 3 from a checkpoint without redense: it starts here" in caplog.text
    assert seen.zeros == [0, 128, 128, 128, 128, 0, 0]
    assert seen.rates == pytest.approx([0.01] * 4 + [0.001] * 3)
    known = json.loads((tmp_path / "checkpoint-10" / "trainer_state.json").read_text())["stateful_callbacks"]
    assert known["DSDTrainerCallback"]["args"]["schedule"] == SCHEDULE.to_dict()


def test_the_best_model_that_the_trainer_loads_at_the_end_keeps_its_weights(tmp_path: Path):
    best: dict[str, torch.Tensor] = {}
    schedule = Schedule.prune(dense=2, sparse=3, redense=2, sparsity=0.5)

    class Best(TrainerCallback):
        """The first checkpoint, which is dense, is called the best."""

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
            metrics["eval_loss"] = float(state.global_step)
            if state.global_step == 1:
                best.update(weights(kwargs["model"]))

    options = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    training = trainer(tmp_path, [DSDTrainerCallback(schedule), Best()], **options)
    training.train()
    assert str(training.state.best_model_checkpoint).endswith("checkpoint-1")
    assert_same(weights(training.model), best)


def test_an_optimizer_that_steps_inside_backward_is_refused(tmp_path: Path):
    dummy = type("LayerWiseDummyOptimizer", (torch.optim.SGD,), {})
    model = gpt()
    optimizer = dummy(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    with pytest.raises(OptimizerError, match="inside backward"):
        trainer(tmp_path, [DSDTrainerCallback(SCHEDULE)], model=model, optimizers=(optimizer, scheduler)).train()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device for the Trainer's fp16")
def test_a_step_that_the_fp16_scaler_skips_is_none(tmp_path: Path):
    callback = DSDTrainerCallback(SCHEDULE)
    training = trainer(tmp_path, [callback, Until(1)], fp16=True, use_cpu=False)
    training.accelerator.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    steps: list[int] = []

    class Count(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.append(callback.dsd.step if callback.dsd else -1)

    training.add_callback(Count())
    training.train()
    assert steps == [0]


def test_a_training_that_ends_in_the_sparse_phase_and_a_resume_without_a_scheduler_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    rates = Rates()
    callback = DSDTrainerCallback(SCHEDULE, scale_lr=True)
    trainer(tmp_path, [callback], max_steps=4, save_steps=4, save_only_model=True).train()
    assert "training ended after 4 of 7 steps, in phase 'sparse': the removed weights were not trained" in caplog.text
    resumed = trainer(tmp_path, [DSDTrainerCallback(SCHEDULE, scale_lr=True), rates], save_only_model=True)
    resumed.train(resume_from_checkpoint=True)
    assert "the checkpoint has no state of the scheduler" in caplog.text
    assert rates.rates == pytest.approx([0.01 * SCHEDULE.lr_factor(step) for step in (5, 6, 7)])


def test_names_that_can_be_read_once_hold_for_the_training(tmp_path: Path):
    callback = DSDTrainerCallback(SCHEDULE, exclude=(name for name in ["transformer.h.0.mlp"]))  # pyright: ignore[reportArgumentType]
    seen = Rates()
    trainer(tmp_path, [callback, seen], max_steps=3, save_strategy="no").train()
    assert seen.zeros == [0, 0, 0]
    assert callback.state()["args"]["exclude"] == ["transformer.h.0.mlp"]
    with pytest.raises(ParameterError, match="include takes names and shell patterns, got 7"):
        DSDTrainerCallback(SCHEDULE, include=7)  # pyright: ignore[reportArgumentType]


def test_scale_lr_that_is_no_truth_value_is_refused():
    with pytest.raises(ScheduleError, match="scale_lr must be True or False, got 'no'"):
        DSDTrainerCallback(SCHEDULE, scale_lr=cast("Any", "no"))
