"""Audio Encode (Whisper)."""

from typing import Any

from comfy_api.latest import io

from dicetalk.audio.silence import pad_speech, shut_in_silence, with_pauses
from dicetalk.audio.whisper import speech_features

from .checks import verdict
from .convert import check_duration, to_audio, to_speech
from .hooks import comfy_hooks
from .wires import CATEGORY, AudioWire, EncodedSpeech, HostedModel, ModelWire, SpeechWire


class AudioEncode(io.ComfyNode):
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
                AudioWire.Input("audio", tooltip="The speech: any rate, mono, stereo or surround, 0.1 s to an hour."),
                io.Float.Input(
                    "start", default=0.0, min=0.0, max=86400.0, step=0.01, tooltip="Seconds of the sound to skip."
                ),
                io.Float.Input(
                    "duration",
                    default=0.0,
                    min=0.0,
                    max=3600.0,
                    step=0.01,
                    tooltip="Seconds to use, 0.1 or more; 0 takes all that follows the start.",
                ),
                io.Float.Input(
                    "pad_start",
                    default=0.0,
                    min=0.0,
                    max=60.0,
                    step=0.01,
                    optional=True,  # prompts from before have no such input
                    advanced=True,
                    tooltip="Seconds of silence before the speech. Times of emotions count from the video's beginning.",
                ),
                io.Float.Input(
                    "pad_end",
                    default=0.0,
                    min=0.0,
                    max=60.0,
                    step=0.01,
                    optional=True,  # prompts from before have no such input
                    advanced=True,
                    tooltip="Seconds of silence after the speech.",
                ),
                io.Float.Input(
                    "silence_below",
                    default=0.0,
                    min=-120.0,
                    max=0.0,
                    step=1.0,
                    optional=True,  # prompts from before have no such input
                    advanced=True,
                    tooltip="Let the network hear digital silence, which keeps the mouth shut, where the sound is "
                    "fainter than this level in dB, for example -45. 0 switches it off.",
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
    def validate_inputs(cls, duration: float | None = None) -> bool | str:
        return verdict(lambda: duration is None or check_duration(duration))

    @classmethod
    def execute(
        cls,
        model: HostedModel,
        audio: dict[str, Any],
        start: float,
        duration: float,
        pad_start: float = 0.0,
        pad_end: float = 0.0,
        silence_below: float = 0.0,
    ) -> io.NodeOutput:
        hooks = comfy_hooks({"speech": 1})
        speech = pad_speech(to_speech(audio, start, duration, hooks), pad_start, pad_end)
        speech = shut_in_silence(speech, silence_below or None)
        heard = with_pauses(speech)
        features = speech_features(heard, model.dice.whisper, residency=model.residency, hooks=hooks)
        encoded = EncodedSpeech(speech, features)
        return io.NodeOutput(encoded, to_audio(speech), features.frames, speech.seconds, ui=hooks.shown())
