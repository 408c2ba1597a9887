"""Audio Encode (Whisper)."""

from typing import Any

from comfy_api.latest import io

from dicetalk.audio.silence import pad_speech, shut_in_silence, with_pauses
from dicetalk.audio.whisper import speech_features
from dicetalk.settings import SpeechSettings

from .checks import verdict
from .convert import check_duration, to_audio, to_speech
from .hooks import SHOWN_AGAIN, comfy_hooks, keeps_notices
from .parameters import setting_inputs
from .wires import CATEGORY, AudioWire, EncodedSpeech, HostedModel, ModelWire, SpeechWire


class AudioEncode(io.ComfyNode):
    """Sound to speech features."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_AudioEncode",
            **SHOWN_AGAIN,
            display_name="Audio Encode (Whisper)",
            category=CATEGORY,
            description="Cuts out a part of a recording and lets Whisper hear it. The clip gets its length.",
            search_aliases=["whisper", "speech", "lip sync"],
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model."),
                AudioWire.Input("audio", tooltip="The speech: any rate, mono, stereo or surround, 0.1 s to an hour."),
                *setting_inputs(SpeechSettings, required=frozenset({"start", "duration"})),
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
        """Check the values that are known before the workflow runs."""
        return verdict(lambda: duration is None or check_duration(duration))

    @classmethod
    @keeps_notices
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
        """Cut the recording, pad it, and encode it with Whisper."""
        hooks = comfy_hooks({"speech": 1})
        speech = pad_speech(to_speech(audio, start, duration, hooks), pad_start, pad_end)
        speech = shut_in_silence(speech, silence_below or None)
        heard = with_pauses(speech)
        features = speech_features(heard, model.dice.whisper, residency=model.residency, hooks=hooks)
        encoded = EncodedSpeech(speech, features)
        return io.NodeOutput(encoded, to_audio(speech), features.frames, speech.seconds, ui=hooks.shown())
