"""Emotion Timeline."""

import numpy as np
from comfy_api.latest import io

from dicetalk.audio.speech import SAMPLE_RATE, Speech
from dicetalk.emotion.algebra import note_unused_end
from dicetalk.emotion.files import track_from_json
from dicetalk.emotion.show import plot_track

from .checks import NAMES_ALONE, verdict
from .convert import to_image
from .hooks import SHOWN_AGAIN, comfy_hooks, keeps_notices
from .wires import CATEGORY, EmotionWire, EncodedSpeech, HostedModel, ModelWire, SpeechWire

PEAKS = 800

DEFAULT_KEYFRAMES = '{"keyframes": [{"time": 0.0, "weights": {"happy": 1.0}, "intensity": 1.0, "easing": "smooth"}]}'


class EmotionTimeline(io.ComfyNode):
    """Keyframes to an emotion that changes over the speech."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_EmotionTimeline",
            **SHOWN_AGAIN,
            display_name="Emotion Timeline",
            category=CATEGORY,
            description="An emotion that changes while the portrait speaks. Run it once to see the speech's waveform.",
            search_aliases=["emotion track", "keyframes", "emotion curve"],
            # So that a cached run shows the waveform again after the page was loaded anew.
            is_output_node=True,
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model; it brings the presets."),
                SpeechWire.Input("speech", tooltip="From Audio Encode; gives the length and the waveform."),
                io.String.Input(
                    "keyframes",
                    default=DEFAULT_KEYFRAMES,
                    extra_dict={"widgetType": "DICETALK_EMOTION_TIMELINE"},
                    tooltip="Keyframes as JSON; time in seconds, easing linear, smooth, ease-in, ease-out or hold: "
                    + DEFAULT_KEYFRAMES,
                ),
            ],
            outputs=[
                EmotionWire.Output("emotion", tooltip="For DICE Sampler."),
                io.Image.Output("preview", tooltip="The emotion over time, as a picture."),
            ],
        )

    @classmethod
    def validate_inputs(cls, keyframes: str | None = None) -> bool | str:
        """Check the values that are known before the workflow runs."""
        return verdict(lambda: keyframes is None or track_from_json(keyframes, NAMES_ALONE))

    @classmethod
    @keeps_notices
    def execute(cls, model: HostedModel, speech: EncodedSpeech, keyframes: str) -> io.NodeOutput:
        """Make a track of the keyframes, with its picture, and send the waveform to the widget."""
        hooks, sound = comfy_hooks({}), speech.speech
        track = note_unused_end(track_from_json(keyframes, model.presets), sound.seconds, hooks)
        picture = plot_track(track, model.presets, (sound.samples, SAMPLE_RATE))
        shown = {"dicetalk_waveform": waveform_peaks(sound), "dicetalk_duration": [round(sound.seconds, 3)]}
        return io.NodeOutput(model.emotion(track), to_image(picture), ui=hooks.shown(shown))


def waveform_peaks(speech: Speech) -> list[float]:
    """The loudest sample, 0 to 1, of each of up to 800 equal parts, for the widget to draw."""
    starts = np.linspace(0, len(speech.samples), min(PEAKS, len(speech.samples)), endpoint=False).astype(int)
    peaks = np.maximum.reduceat(np.abs(speech.samples), starts)
    return [round(float(peak), 3) for peak in peaks.clip(max=1)]
