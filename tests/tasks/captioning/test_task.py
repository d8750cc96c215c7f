"""Caption generation end to end: what it learns, what is measured, and what the lab makes of it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from redense.errors import DataError
from redense.lab.arms import ARMS, Setting
from redense.lab.recipe.recipe import build_recipe, load_recipe
from redense.lab.runs.outline import dry_run, outline
from redense.lab.tasks import data_of, make_task
from redense.lab.training.engine import Engine
from redense.tasks.captioning.config import CaptionModel
from redense.tasks.captioning.examples import PAD
from redense.tasks.captioning.task import Captioning

SMALL: dict[str, Any] = {"width": 32, "hidden": 32, "dropout": 0.0, "beam": 2}


@pytest.fixture
def recipe(captioned, colour_blind):
    def make(**changes: Any):
        plain: dict[str, Any] = {
            "task": "captioning",
            "data": {"source": str(captioned(train=240)), "threshold": 1},
            "model": SMALL,
            "training": {"batch_size": 20, "optimizer": {"name": "rmsprop", "lr": 0.005}, "clip_value": 5},
            "dense": {"epochs": 12},
            "sparse": {"epochs": 2, "sparsity": 0.5, "lr": 0.005},
            "redense": {"epochs": 2, "lr": 0.002},
        }
        return build_recipe(plain | changes)

    return make


@pytest.mark.slow
def test_it_learns_to_say_which_colour_it_sees(recipe):
    made = recipe()
    engine = Engine(make_task(made), made)
    untrained = engine.evaluate("test")
    while engine.phase_index < len(engine.plan):
        engine.train()
        if engine.phase_index == 2:
            assert engine.network.sparsity() == pytest.approx(0.5, abs=0.01)
    trained = engine.evaluate("test")
    assert trained["bleu4"] > 45 > untrained["bleu4"]
    assert trained["perplexity"] < 3 < untrained["perplexity"]
    outcome = engine.outcome("test")
    task = engine.task
    assert isinstance(task, Captioning)
    colours = {"red", "green", "blue"}
    right = [
        colours & set(said) == colours & set(own[0])
        for said, own in zip(task.sentences(outcome), task.references(outcome), strict=True)
    ]
    assert sum(right) >= 5


def test_the_loss_is_the_sum_over_a_sentence_as_a_mean_over_sentences(captioned, config, colour_blind):
    task = Captioning(config(captioned()), CaptionModel(**SMALL))
    torch.manual_seed(0)
    model = task.build_model().eval()
    train = task.examples("train")
    whole = task.loss(model, train.__getitems__(range(len(train))))
    alone = [float(task.loss(model, train.__getitems__([index])).detach()) for index in range(len(train))]
    assert float(whole.detach()) == pytest.approx(sum(alone) / len(alone), rel=1e-5)


def test_perplexity_counts_every_word_once_whatever_the_batches(captioned, config, colour_blind):
    task = Captioning(config(captioned()), CaptionModel(**SMALL))
    torch.manual_seed(0)
    model = task.build_model().eval()
    test = task.examples("test")
    with torch.no_grad():
        whole = task.outcome(model, test.__getitems__(range(6)))
        parts = [task.outcome(model, test.__getitems__(some)) for some in ([4, 0], [5, 2, 1], [3])]
    joined = {name: torch.cat([part[name] for part in parts]) for name in whole}
    for name, value in task.metrics(whole).items():
        assert task.metrics(joined)[name] == pytest.approx(value, rel=1e-5), name
    assert whole["words"].tolist() == [4 + 7] * 6  # "a red square" and "it is red all of it", each with its end
    loss = float(whole["loss"].sum() / whole["words"].sum())
    assert task.metrics(whole)["perplexity"] == pytest.approx(math.exp(loss))


def test_a_stored_outcome_is_read_when_the_numbers_in_the_source_have_shifted(captioned, config, colour_blind):
    folder = captioned()
    before = Captioning(config(folder), CaptionModel(**SMALL))
    model = before.build_model().eval()
    with torch.no_grad():
        kept = before.outcome(model, before.examples("test").__getitems__(range(6)))
    old = {**kept, "image": torch.tensor(before.splits.test.index)}  # an older redense kept numbers in the source
    told, figures = before.evidence({"dense": kept, "redense": old}), before.metrics(kept)
    listed = json.loads((folder / "dataset.json").read_text())
    listed["images"].insert(0, {"filename": "train-0.png", "split": "train", "sentences": []})  # and so is left out
    (folder / "dataset.json").write_text(json.dumps(listed))
    after = Captioning(config(folder), CaptionModel(**SMALL))
    assert after.fingerprint == before.fingerprint
    assert after.splits.test.index == tuple(number + 1 for number in before.splits.test.index)
    assert after.metrics(kept) == figures
    assert after.evidence({"dense": kept, "redense": old}) == told | {"notes": list(after.notes)}
    with torch.no_grad():
        again = after.outcome(model, after.examples("test").__getitems__(range(6)))
    assert again["image"].equal(kept["image"])


def test_its_data_is_counted_in_sentences_and_images(recipe):
    made = recipe()
    said = data_of(made, make_task(made))["text"]
    assert said.endswith(": 480 training sentences, 6 validation images and 6 test images")


def test_outputs_are_the_logits_of_every_word(captioned, config, colour_blind):
    task = Captioning(config(captioned()), CaptionModel(**SMALL))
    batch = task.examples("train").__getitems__([0, 1, 2])
    assert task.outputs(task.build_model(), batch).shape == (4 + 7 + 4, len(task.vocabulary))


def test_rare_words_are_left_out_and_said(captioned, config, colour_blind):
    task = Captioning(config(captioned(), threshold=9), CaptionModel(**SMALL))
    assert "red" not in task.vocabulary.words
    assert task.notes[-1] == (
        "vocabulary: 6 words; 3 that occur less than 9 times in the training sentences are left out "
        "(22.2% of all words)"
    )
    with pytest.raises(DataError, match=r"lower data\.threshold"):
        Captioning(config(captioned(), threshold=500), CaptionModel(**SMALL))


def test_smoothing_spreads_a_part_of_each_word_over_all_words_and_no_reported_loss(recipe):
    made = recipe(training={"label_smoothing": 0.1})
    task = make_task(made)
    assert isinstance(task, Captioning)
    model = task.build_model().eval()
    batch = task.examples("train").__getitems__([0, 1, 2])
    logs = task.outputs(model, batch).log_softmax(1)
    right = batch.following[batch.following != PAD]
    for smoothing, one in ((0.1, task), (0.0, task.varied(recipe())), (0.1, task.varied(made))):
        target = F.one_hot(right, logs.shape[1]) * (1 - smoothing) + smoothing / logs.shape[1]
        torch.testing.assert_close(one.loss(model, batch), -(target * logs).sum() / 3)
    judged = task.examples("validation").__getitems__([0, 1])
    with torch.no_grad():
        outcomes = [one.outcome(model, judged)["loss"] for one in (task, task.varied(recipe()))]
    assert outcomes[0].equal(outcomes[1])


def test_the_arm_smooth_changes_the_loss_of_captions_after_the_dense_phase(recipe):
    made = recipe()
    task = make_task(made)
    assert isinstance(task, Captioning)
    flow = ARMS["smooth"].make(Setting(made, 12, (0,), str))
    engine = Engine(task, flow.recipe, flow.phases)
    model = engine.model.eval()
    batch = task.examples("train").__getitems__([0, 1, 2])
    for index, smoothing in enumerate((0.0, 0.1, 0.1)):
        expected = task.varied(recipe(training={"label_smoothing": smoothing})).loss(model, batch)
        method = engine.prepared.method(index)
        torch.testing.assert_close(method.loss(engine.prepared.context(index), model, batch), expected)


def test_the_papers_recipe_is_outlined_without_its_data():
    made = outline(load_recipe("flickr8k/neuraltalk"))
    assert made.parameters == 6_798_314
    assert not made.facts.looked_at
    assert [round(made.sparsity(planned), 3) for planned in made.phases] == [0.0, 0.8, 0.0]
    assert [row.name for row in made.rows if not row.prunable and "bias" not in row.name] == ["words.weight"]


def test_a_plan_is_dry_run_on_random_sentences():
    small = ["--model.width", "8", "--model.hidden", "8", "--data.expected.features", "12"]
    measured = dry_run(load_recipe("flickr8k/neuraltalk", small), steps=2).measured
    assert measured["examples_per_second"] > 0
