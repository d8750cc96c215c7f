"""The headline of a comparison: it says what the conclusions say, whatever diverged."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from redense.lab.judging import words
from redense.lab.judging.figures import ArmFigures
from redense.lab.judging.headline import headline
from redense.lab.judging.judge import judge
from redense.lab.judging.results import is_dense
from redense.lab.judging.verdicts import Decision, decide

ARMS = ("baseline", "dsd", "random", "restart", "llr")


def decision(means: dict[str, float], lost: dict[str, int] | None = None, seeds: int = 5) -> Decision:
    """Arms with these mean errors; of some, so many runs diverged."""
    figures: dict[str, ArmFigures] = {}
    for arm, mean in means.items():
        noise = random.Random(arm)
        values = {str(seed): mean + noise.gauss(0, 0.05) for seed in range(seeds)}
        steps = 50.0 if arm == "baseline" else 100.0
        kept = dict(list(values.items())[(lost or {}).get(arm, 0) :])
        figures[arm] = ArmFigures(kept, {seed: value + 0.1 for seed, value in kept.items()}, steps, seeds)
    controls = [arm for arm in ("restart", "llr") if arm in means]
    return decide(figures, lower_is_better=True, baseline="baseline", controls=controls, metric="error", unit="%")


def test_one_gain_is_said_with_its_size_against_baseline_and_control():
    said = headline(decision({"baseline": 12.0, "dsd": 10.0, "restart": 11.0}), figure="test error")
    assert re.fullmatch(
        r"dsd is a gain: its test error is (1\.9|2\.0)\d* points lower than the baseline's and (0\.9|1\.0)\d* points "
        r"lower than restart's, which has no mask, over 5 seeds\.",
        said,
    )


def test_a_control_whose_run_diverged_takes_the_gain_in_every_place_that_says_it():
    whole = decision({"baseline": 12.0, "dsd": 10.0, "restart": 11.0})
    broken = decision({"baseline": 12.0, "dsd": 10.0, "restart": 11.0}, {"restart": 1})
    assert whole.conclusions["dsd"].gain
    told = broken.conclusions["dsd"]
    assert (told.gain, dict(told.against)) == (False, {"baseline": "better", "restart": "better"})
    assert told.to_dict()["obstacle"] == "diverged"
    assert headline(broken) == "No arm shows a gain over 4 seeds. 1 of 5 runs of restart diverged, so dsd is none."
    assert words.said_of(broken, "dsd").endswith("1 of 5 runs of restart diverged, so no gain can be claimed.")


def test_an_arm_of_which_one_run_is_left_takes_no_caution_from_the_others():
    whole = decision({"baseline": 12.0, "dsd": 10.0, "restart": 11.0, "random": 11.0})
    broken = decision({"baseline": 12.0, "dsd": 10.0, "restart": 11.0, "random": 11.0}, {"random": 4})
    assert words.caution(broken) == words.caution(whole)
    assert (whole.family.comparisons, broken.family.comparisons) == (5, 3)  # what Holm's correction counts
    assert "for one look at seeds whose number was fixed before" in (words.caution(broken) or "")
    assert "random: no gain. One seed shows nothing." in words.said_of(broken, "random")


def test_a_control_whose_run_diverged_says_nothing_of_training_longer():
    means = {"baseline": 12.0, "dsd": 11.0, "restart": 11.0}
    assert "training longer helps by itself" in headline(decision(means))
    said = headline(decision(means, {"restart": 1}))
    assert "training longer" not in said
    assert said.endswith(
        "dsd is better than the baseline, but not shown to be better than restart, the control without a mask. "
        "1 of 5 runs of restart diverged: no gain could be claimed anyway."
    )


@pytest.mark.parametrize("lost", [*({arm: n} for arm in ARMS for n in (1, 5)), {"dsd": 1, "restart": 1}, {}], ids=str)
def test_headline_and_conclusions_name_the_same_gains_and_the_same_obstacles(lost: dict[str, int]):
    for dsd, restart, llr in itertools.product((9.0, 11.0, 12.0), (10.0, 12.0), (10.5, 12.0)):
        found = decision({"baseline": 12.0, "dsd": dsd, "random": 11.5, "restart": restart, "llr": llr}, lost)
        said = headline(found)
        won = [arm for arm, told in found.conclusions.items() if told.gain]
        assert won == [arm for arm in found.conclusions if words.said_of(found, arm).startswith(f"{arm}: a gain.")]
        named = re.match(r"(?:(.+) are gains|(\w+) is a gain)", said)
        listed = re.split(r", | and ", named[1] or named[2]) if named else []
        assert listed == won, said
        for arm, told in found.conclusions.items():
            if told.obstacle:
                assert not told.gain
                assert words.obstacle(told.obstacle) in words.said_of(found, arm)
            ahead = told.role == "arm" and told.against and set(told.against.values()) == {"better"}
            if not won and ahead and told.obstacle:
                assert words.obstacle(told.obstacle) in said
        ended = set(re.findall(r"runs of (\w+) diverged", said))
        assert ended <= set(lost)


def test_a_baseline_without_any_run_is_no_error_and_no_gain():
    found = decision({"baseline": 12.0, "dsd": 10.0, "restart": 11.0}, {"baseline": 5})
    assert headline(found) == "No arm shows a gain over 5 seeds. 5 of 5 runs of baseline diverged, so dsd is none."
    found = decision({"baseline": 12.0, "dsd": 11.0, "restart": 11.0}, {"baseline": 5})
    assert headline(found).endswith("5 seeds. No run of the baseline came to its end, so no arm is compared with it.")
    assert words.said_of(found, "restart").startswith("restart: the control. It is what others are compared with.")
    assert headline(decision({"baseline": 12.0})) == "Nothing can be compared: there is one arm."


def test_codes_say_what_the_sentences_say():
    found = decision({"baseline": 12.0, "dsd": 10.0, "random": 11.9, "restart": 11.0})
    assert found.conclusions["dsd"].to_dict() == {
        "role": "arm",
        "gain": True,
        "against": {"baseline": "better", "restart": "better"},
        "obstacle": None,
    }
    alone = decision({"baseline": 12.0, "dsd": 10.0}).conclusions["dsd"].to_dict()
    assert (alone["gain"], alone["obstacle"]) == (False, "no-control")


def judged(means: dict[str, float], controls: list[str], steps: dict[str, float] | None = None) -> Decision:
    figures = {
        arm: ArmFigures({str(seed): mean + random.Random(f"{arm}{seed}").random() / 10 for seed in range(6)},
                        steps=(steps or {}).get(arm), runs=6)
        for arm, mean in means.items()
    }  # fmt: skip
    return decide(figures, lower_is_better=True, baseline="baseline", controls=controls, metric="error")


def test_only_the_controls_that_are_not_beaten_are_said_to_be_level_or_not():
    controls = ["restart", "llr"]
    said = headline(judged({"baseline": 31.0, "restart": 30.0, "llr": 28.0, "dsd": 29.0}, controls))
    assert "dsd is better than the baseline, but so is llr, without a mask: training longer helps" in said
    said = headline(judged({"baseline": 31.0, "restart": 30.0, "llr": 31.0, "dsd": 31.0, "x": 30.0}, controls))
    assert "x is better than the baseline, but so is restart, without a mask" in said
    said = headline(judged({"baseline": 31.0, "restart": 32.0, "llr": 29.99, "dsd": 30.0}, controls))
    assert "so is llr, without a mask" in said


def test_a_control_that_trains_no_longer_is_not_said_to_train_longer():
    means, steps = {"baseline": 31.0, "wide": 29.0, "dsd": 29.0}, {"baseline": 500.0, "wide": 500.0, "dsd": 500.0}
    said = headline(judged(means, ["wide"], steps))
    assert said.endswith("but so is wide, without a mask: what it does helps by itself, and nothing more is shown.")
    assert "training longer helps by itself" in headline(judged(means, ["wide"], {**steps, "wide": 501.0}))
    assert "what it does helps by itself" in headline(judged(means, ["wide"]))  # nobody told the steps
    for known in ("restart", "LLR lr=0.1"):  # arms that are longer whoever trains them
        named = {known if arm == "wide" else arm: mean for arm, mean in means.items()}
        assert "training longer helps by itself" in headline(judged(named, [known]))


def test_a_baseline_with_a_mask_is_not_called_dense():
    rows = [{"arm": "a", "phases": [{"phase": {"steps": 3}}]}, {"arm": "b", "phases": [{"phase": {"sparsity": 0.3}}]}]
    assert [is_dense({"form": "function", "rows": rows}, one) for one in ("a", "b")] == [True, False]


def test_a_name_with_a_comma_is_the_whole_name_in_a_sentence():
    found = judged({"baseline": 31.0, "lr=0.1,wd=0": 30.0, "dsd": 29.0}, ["lr=0.1,wd=0"])
    against = found.contrast("dsd", "lr=0.1,wd=0")
    assert against is not None
    assert " lower error than lr=0.1,wd=0 (95 %" in words.sentence(found, against)


def told_of(arm: list[float], baseline: list[float], margin: float | None = None) -> str:
    """Return the sentence on an arm of which a table has these figures."""
    found = judge({"baseline": baseline, "dsd": arm}, margin=margin, lower_is_better=True, metric="error").decision
    return words.sentence(found, found.contrasts[0])


def test_pairs_without_a_spread_are_told_as_they_are():
    baseline = [31.5, 30.2, 31.9]
    told = told_of([30.7, 29.5, 31.1], baseline)
    assert "(-0.80 to -0.70, no further apart than the last digit, n = 3, p = 0.25 after Holm)" in told
    assert "(in every pair, n = 3," in told_of([value - 1 for value in baseline], baseline)
    told = told_of(baseline, baseline, margin=0.3)
    assert told.startswith("dsd against the baseline: equivalent: ")
    assert told.endswith("; each pair lies within ±0.3, uncorrected.")


@pytest.mark.parametrize(
    ("first", "reason"), [(0.0, "not every seed shows a difference"), (-0.01, "the seeds do not agree on its sign")]
)
def test_a_veto_says_on_what_the_seeds_do_not_agree(first: float, reason: str):
    told = told_of([10.0] * 5, [10.0 + one for one in (first, 1.0, 1.1, 0.9, 1.05)])
    assert f"; {reason} (sign-flip test: p = 0.12)" in told


def test_the_limit_of_the_veto_is_told_for_every_number_of_seeds():
    assert "above 0.0625, its limit for 5 seeds. A gain" in words.rule(decision(dict.fromkeys(ARMS, 12.0)))
    fewer = decision(dict.fromkeys(ARMS, 12.0), {"dsd": 2})
    assert "above 0.0625, its limit for 5 seeds (0.25 for 3 seeds). A gain" in words.rule(fewer)


def test_a_mean_without_an_interval_has_four_digits():
    assert words.interval_text(97.43, None) == "97.43"
    assert words.interval_text(0.93125, None) == "0.9313"


def test_seeds_that_change_nothing_are_one_run_and_no_gain():
    means = {"baseline": 31.0, "restart": 30.0, "dsd": 29.0}

    def told(of_dsd: list[float]) -> Decision:
        values = {arm: [mean] * 10 for arm, mean in means.items()} | {"dsd": of_dsd}
        seeds = [str(seed) for seed in range(10)]
        figures = {arm: ArmFigures(dict(zip(seeds, own, strict=True)), runs=10) for arm, own in values.items()}
        return decide(figures, lower_is_better=True, baseline="baseline", controls=["restart"], metric="error")

    said = told([29.0] * 10)
    assert (said.conclusions["dsd"].gain, said.conclusions["dsd"].to_dict()["obstacle"]) == (False, "same-seeds")
    assert "No arm has another figure for another seed, as if none of them used its seed, so dsd is none." in headline(
        said
    )
    assert told([29.0] * 9 + [28.9]).conclusions["dsd"].gain


def test_an_arm_of_which_every_run_was_lost_is_named():
    told = headline(decision({"baseline": 12.0, "restart": 11.0, "dsd": 10.0, "random": 10.0}, {"dsd": 5, "random": 5}))
    assert told.endswith("dsd and random have no run that came to its end.")


def test_differences_that_rounding_alone_can_have_made_are_said_to_count_as_none():
    def told(offset: float, step: float) -> str:
        values = {arm: {str(seed): offset + shift + seed / 64 for seed in range(6)} for arm, shift in
                  (("baseline", 0.0), ("longer", 0.0), ("dsd", -step))}  # fmt: skip
        figures = {arm: ArmFigures(own, runs=6) for arm, own in values.items()}
        given = {"lower_is_better": True, "baseline": "baseline", "controls": ["longer"], "metric": "error"}
        return words.caution(decide(figures, **given)) or ""

    hidden = "are taken for none: rounding alone can part figures of this size"
    assert f"Differences of up to 0.00098 {hidden}" in told(1e9, 2**-10)
    assert hidden not in told(1e3, 2**-10)
    assert hidden not in told(1e9, 0.0)  # level, to the last digit
