"""Speech recognition, as recipes, the command line and the report know it. No torch here."""

from __future__ import annotations

from redense.tasks.metrics import Metric
from redense.tasks.registry import Registration, register

from .config import SpeechData, SpeechModel

METRIC = Metric("wer", "%", lower_is_better=True)

register(
    Registration(
        name="speech",
        data=SpeechData,
        model=SpeechModel,
        entry="redense.tasks.speech.entry",
        metric=METRIC,
        things="clips",
        looking="listening to every clip",
        sets=("tones",),
        listens=True,
        recognises="redense.tasks.speech.data.layouts:looks_like_recordings",
        check="redense.tasks.speech.data.inspecting:check",
        opens="redense.tasks.speech.opening:open_recogniser",
        alone="redense.tasks.speech.opening:alone",
        verb="transcribe",
        sample=("recording.wav", "what is said"),
        tag="automatic-speech-recognition",
        other="redense.tasks.speech.opening:other_recordings",
        evidence="redense.tasks.speech.schema:SpeechEvidence",
        report="redense.report.tasks.speech.part:sections",
    )
)
