"""Image classification, as recipes, the command line and the report know it. No torch here."""

from __future__ import annotations

from redense.tasks.metrics import Metric
from redense.tasks.registry import Registration, register

from .config import ImageData, ImageModel

METRIC = Metric("error", "%", lower_is_better=True)

register(
    Registration(
        name="classification",
        data=ImageData,
        model=ImageModel,
        entry="redense.tasks.classification.entry",
        metric=METRIC,
        things="images",
        looking="looking at every image",
        sets=("sample", "debian"),
        recognises="redense.tasks.classification.data.inspecting:has_images",
        check="redense.tasks.classification.data.inspecting:check",
        opens="redense.tasks.classification.classifier:open_classifier",
        alone="redense.tasks.classification.classifier:alone",
        verb="predict",
        sample=("picture.jpg", "classes with their probabilities"),
        tag="image-classification",
        other="redense.tasks.classification.other:other_images",
        evidence="redense.tasks.classification.schema:ClassificationEvidence",
        report="redense.report.tasks.classification.part:sections",
    )
)
