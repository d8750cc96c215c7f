"""Caption generation, as recipes, the command line and the report know it. No torch here."""

from __future__ import annotations

from redense.tasks.metrics import Metric
from redense.tasks.registry import Registration, register

from .config import CaptionData, CaptionModel

METRIC = Metric("bleu4", "", lower_is_better=False)

register(
    Registration(
        name="captioning",
        data=CaptionData,
        model=CaptionModel,
        entry="redense.tasks.captioning.entry",
        metric=METRIC,
        things="images",
        looking="looking at every image",
        recognises="redense.tasks.captioning.data.inspecting:has_captions",
        check="redense.tasks.captioning.data.inspecting:check",
        opens="redense.tasks.captioning.captioner:open_captioner",
        alone="redense.tasks.captioning.exporting:alone",
        companions="redense.tasks.captioning.captioner:companions",
        verb="caption",
        sample=("picture.jpg", "a sentence"),
        tag="image-to-text",
        evidence="redense.tasks.captioning.schema:CaptioningEvidence",
        report="redense.report.tasks.captioning.part:sections",
    )
)
