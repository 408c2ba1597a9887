"""Audio Encode (Whisper)."""

from typing import Any

from comfy_api.latest import io

from dicetalk.audio.whisper import speech_features

from .checks import CheckedNode
from .convert import to_audio, to_speech
from .hooks import comfy_hooks
from .wires import CATEGORY, EncodedSpeech, HostedModel, ModelWire, SpeechWire


class AudioEncode(CheckedNode):
    """Sound to speech features."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DICETalk_AudioEncode",
            display_name="Audio Encode (Whisper)",
            category=CATEGORY,
            description="Cuts out a part of a recording and lets Whisper hear it. The clip gets its length.",
            search_aliases=["whisper", "speech", "lip sync"],
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model."),
                io.Audio.Input("audio", tooltip="The speech: any sample rate, mono or stereo, 0.1 s to an hour."),
                io.Float.Input(
                    "start", default=0.0, min=0.0, max=86400.0, step=0.01, tooltip="Seconds of the sound to skip."
                ),
                io.Float.Input(
                    "duration",
                    default=0.0,
                    min=0.0,
                    max=3600.0,
                    step=0.01,
                    tooltip="Seconds to use; 0 takes all that follows the start.",
                ),
            ],
            outputs=[
                SpeechWire.Output("speech", tooltip="What the network hears."),
                io.Audio.Output("audio_out", display_name="audio", tooltip="The same part of the sound."),
                io.Int.Output("frames", tooltip="Frames that the network makes, 12.5 a second."),
                io.Float.Output("seconds", tooltip="Length of the speech."),
            ],
        )

    @classmethod
    def execute(cls, model: HostedModel, audio: dict[str, Any], start: float, duration: float) -> io.NodeOutput:
        hooks = comfy_hooks({"speech": 1})
        speech = to_speech(audio, start, duration, hooks)
        features = speech_features(speech.samples, model.dice.whisper, residency=model.residency, hooks=hooks)
        return io.NodeOutput(EncodedSpeech(speech, features), to_audio(speech), features.frames, speech.seconds)
