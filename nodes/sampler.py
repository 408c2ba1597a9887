"""DICE Sampler."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from comfy_api.latest import io

from dicetalk.audio.speech import Speech
from dicetalk.emotion.algebra import note_unused_end
from dicetalk.emotion.track import EmotionTrack
from dicetalk.emotion.voice.features import measure_voice
from dicetalk.errors import EmotionError
from dicetalk.hooks import Hooks
from dicetalk.motion.ids import check_length
from dicetalk.motion.parse import follow_voice
from dicetalk.parameters import Parameter
from dicetalk.pipeline import NO_EMOTION, denoise, render
from dicetalk.portrait.prepare import Portrait
from dicetalk.presets import DRAFT, FAST
from dicetalk.settings import FPS, SamplerSettings, VideoSettings
from dicetalk.video import frames_to_cover, hold_last_frame
from dicetalk.video.decode import LatentPreview

from .checks import choice_verdict
from .convert import check_memory, to_audio, to_images, to_video
from .hooks import SHOWN_AGAIN, clip_preview, comfy_hooks, keeps_notices, with_preview
from .load_model import loaded_variants
from .parameters import over_time, setting_inputs, setting_value, timed, timed_inputs
from .presets import CUSTOM, PRESETS, REFERENCE, sampler_settings, setting_refusals
from .prompts import SettledNode, Upstream
from .wires import (
    CATEGORY,
    EMOTION_SOURCES,
    Emotion,
    EmotionWire,
    EncodedSpeech,
    HostedModel,
    ModelWire,
    PortraitWire,
    SpeechWire,
    check_emotion,
    check_portrait,
    check_speech,
)

SEED = "seed"  # stands before the others, as in ComfyUI's own samplers
FIRST = frozenset(
    {"seed", "steps", "portrait_guidance", "expression_guidance", "schedule", "window", "overlap", "shift"}
    | {"audio_scale", "emotion_scale", "motion_bucket", "expression_bucket", "noise_strength", "portrait_noise"}
    | {"batched_guidance", "key_value_budget", "decode_chunk"}
)
"""Settings of the first version."""

BEFORE_FRAME_RATE, AFTER_FRAME_RATE = frozenset({"retrieval"}), frozenset({"motion_amount"})
"""Settings of later versions, which are optional. Workflows hold values by their place: newer ones come last."""

UNWIRED, UNUSED = "not connected", "not used"
"""Values of the input `emotion` before a model without emotions: nothing connected, or what was is left out."""

SHARES = {"portrait": 5, "sample": 80, "decode": 10, "interpolate": 5}


class DiceSampler(SettledNode):
    """A portrait, speech and an emotion to a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="DICETalk_Sampler",
            **SHOWN_AGAIN,
            display_name="DICE Sampler",
            category=CATEGORY,
            description="Lets the portrait speak with the emotion. The clip is as long as the speech.",
            search_aliases=["DICE-Talk", "talking head", "talking portrait", "lip sync", "audio to video"],
            accept_all_inputs=True,  # else a preset that does not exist would be left out, and not be refused
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model."),
                PortraitWire.Input("portrait", tooltip="From Portrait Crop."),
                SpeechWire.Input("speech", tooltip="From Audio Encode."),
                EmotionWire.Input(
                    "emotion",
                    tooltip="One emotion, or one that changes over the speech. A model without emotions (Sonic) runs "
                    "without.",
                ),
                *_inputs(lambda each: each.name == SEED),
                io.DynamicCombo.Input(
                    "preset",
                    options=[
                        io.DynamicCombo.Option(REFERENCE, []),
                        io.DynamicCombo.Option(FAST, []),
                        io.DynamicCombo.Option(CUSTOM, _inputs(lambda each: each.in_preset)),
                        io.DynamicCombo.Option(DRAFT, []),
                    ],
                    tooltip="reference: the steps, guidance and windows that the model was made for. fast: a fifth of "
                    "the work for nearly the same clip. draft: a first look. custom: steps, guidance and windows of "
                    "your own.",
                ),
                io.Boolean.Input(
                    "interpolate", default=True, tooltip="25 frames per second by RIFE; off gives the network's 12.5."
                ),
                *_inputs(lambda each: _always(each) and each.name in FIRST),
                *_video_input("decode_chunk"),
                *_inputs(lambda each: each.name in BEFORE_FRAME_RATE),
                *_video_input("fps"),
                *_inputs(lambda each: each.name in AFTER_FRAME_RATE),
                *timed_inputs(SamplerSettings),
                *_inputs(lambda each: _always(each) and each.name not in FIRST | BEFORE_FRAME_RATE | AFTER_FRAME_RATE),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The frames."),
                io.Audio.Output("audio", tooltip="The speech that they belong to."),
                io.Float.Output("fps", tooltip="Frames per second."),
                io.Video.Output("video", tooltip="Frames and speech together, for Save Video."),
                io.Latent.Output(
                    "latent",
                    tooltip="The clip before decoding. A VAE Decode with SVD's VAE reads the released model's; the "
                    "tiny model's has 16 channels, which only its own VAE reads.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, preset: Any = None) -> bool | str:
        """Check the values that are known before the workflow runs."""
        return choice_verdict("preset", preset, PRESETS)

    @classmethod
    def dead_inputs(cls, inputs: Mapping[str, Any]) -> Iterable[str]:
        """Names of inputs that have no influence beside the others."""
        numbers = [each.input_name for each in timed(SamplerSettings) if _has_text(inputs, each)]
        return numbers if inputs["interpolate"] else [*numbers, "frame_rate"]

    @classmethod
    def rewired(cls, inputs: Mapping[str, Any], upstream: Upstream) -> Mapping[str, Any]:
        """A model without emotions runs without one, and what would make it one is not run.

        Where every model that the wire may bring has emotions, a missing one is ComfyUI's own error before the run.
        """
        models = loaded_variants(upstream("model"))
        if "emotion" not in inputs:
            known = models and all(model is not None and model.has_emotions for model in models)
            return {} if known else {"emotion": UNWIRED}
        without = models and all(model is not None and not model.has_emotions for model in models)
        return {"emotion": UNUSED} if without else {}

    @classmethod
    def refusals(cls, inputs: Mapping[str, Any]) -> Mapping[str, str]:
        """Reasons against values that do not go together, by input."""
        return setting_refusals(inputs)

    @classmethod
    @keeps_notices
    def execute(
        cls,
        model: HostedModel,
        portrait: Portrait,
        speech: EncodedSpeech,
        emotion: Emotion | str,
        preset: Mapping[str, Any],
        interpolate: bool,
        decode_chunk: int,
        frame_rate: float = 0.0,
        **values: Any,
    ) -> io.NodeOutput:
        """Denoise a clip, decode it and, where asked for, put frames between."""
        check_portrait(model, portrait)
        check_speech(model, speech)
        settings = sampler_settings(model.dice.config.sampling, preset, **values)
        dice, residency, sound = model.dice, model.residency, speech.speech
        hooks = comfy_hooks(SHARES)
        settings = follow_voice(settings, lambda: measure_voice(sound.samples, hooks))
        check_length(dice.audio_to_bucket, speech.features, settings)
        chosen = {"decode_chunk": decode_chunk} | ({"frame_rate": frame_rate} if interpolate else {})
        video = VideoSettings(**setting_value(VideoSettings, chosen))
        asked = video.fps
        if interpolate and asked is None and dice.flownet is None:
            hooks.notice("The model has no frame interpolation (RIFE): the clip has 12.5 frames per second.")
            interpolate = False
        track = _track(model, emotion, sound, hooks)
        fps = asked or (2 * FPS if interpolate else FPS)
        frames = frames_to_cover(sound.sound.shape[1], sound.sound_sample_rate, fps)
        check_memory(frames, *portrait.image.shape[-2:])

        encoded = model.encode(portrait, settings, hooks)
        colours = LatentPreview.fit(portrait.image, encoded.start_latents)
        shown = with_preview(hooks, clip_preview(colours, speech.features.frames))
        latents = denoise(dice, encoded, speech.features, track, settings, residency=residency, hooks=shown)
        clip = render(
            dice,
            latents,
            decode_chunk=video.decode_chunk,
            interpolate=interpolate,
            fps=asked,
            residency=residency,
            hooks=hooks,
        )
        # Whole frames rarely end with the sound: the last one is held so that no syllable is cut.
        images = to_images(hold_last_frame(clip.chunks, frames), frames)
        audio = to_audio(sound)
        samples = latents.values[: latents.frames] / dice.config.vae.scaling_factor
        return io.NodeOutput(images, audio, fps, to_video(images, audio, fps), {"samples": samples}, ui=hooks.shown())


def _track(model: HostedModel, emotion: Emotion | str, sound: Speech, hooks: Hooks) -> EmotionTrack | None:
    """The emotion over the speech; `None`, with a notice of one that is connected, for a model without emotions."""
    if not model.dice.has_emotions:
        if emotion != UNWIRED:
            hooks.notice(NO_EMOTION)
        return None
    if isinstance(emotion, str):
        raise EmotionError(f"emotion: this model shows emotions, and none is connected. Connect {EMOTION_SOURCES}.")
    check_emotion(model, emotion, "emotion")
    return note_unused_end(emotion.track, sound.seconds, hooks)


def _has_text(inputs: Mapping[str, Any], each: Parameter) -> bool:
    """Whether a text over time takes the place of a number, which then has no part in the result."""
    text = inputs.get(over_time(each.input_name))
    return isinstance(text, str) and bool(text.strip())


def _always(each: Parameter) -> bool:
    return not each.in_preset and each.name != SEED


def _inputs(only: Callable[[Parameter], bool]) -> list[io.Input]:
    return setting_inputs(SamplerSettings, required=FIRST, only=only)


def _video_input(name: str) -> list[io.Input]:
    return setting_inputs(VideoSettings, required=FIRST, only=lambda each: each.name == name)
