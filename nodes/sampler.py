"""DICE Sampler."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from dicetalk.pipeline import denoise, render
from dicetalk.portrait.prepare import Portrait
from dicetalk.settings import FPS, SCHEDULES
from dicetalk.video import frames_to_cover, hold_last_frame
from dicetalk.video.preview import LatentPreview

from .checks import choice_verdict
from .convert import check_room, to_audio, to_images, to_video
from .hooks import clip_preview, comfy_hooks, with_preview
from .presets import CUSTOM, FAST, PRESETS, REFERENCE, sampler_settings, setting_refusals
from .prompts import SettledNode
from .wires import (
    CATEGORY,
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

SHARES = {"portrait": 5, "sample": 80, "decode": 10, "interpolate": 5}


class DiceSampler(SettledNode):
    """A portrait, speech and an emotion to a clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DICETalk_Sampler",
            display_name="DICE Sampler",
            category=CATEGORY,
            description="Lets the portrait speak with the emotion. The clip is as long as the speech.",
            search_aliases=["DICE-Talk", "talking head", "talking portrait", "lip sync", "audio to video"],
            accept_all_inputs=True,  # else a preset that does not exist would be left out, and not be refused
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model."),
                PortraitWire.Input("portrait", tooltip="From Portrait Crop."),
                SpeechWire.Input("speech", tooltip="From Audio Encode."),
                EmotionWire.Input("emotion", tooltip="One emotion, or one that changes over the speech."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    control_after_generate=True,
                    tooltip="Of the noise; the same seed gives the same noise on every device.",
                ),
                io.DynamicCombo.Input(
                    "preset",
                    options=[
                        io.DynamicCombo.Option(REFERENCE, []),
                        io.DynamicCombo.Option(FAST, []),
                        io.DynamicCombo.Option(CUSTOM, _custom_inputs()),
                    ],
                    tooltip="reference: the steps, guidance and windows that the model was made for. fast: half the "
                    "steps and no padding around the clip. custom: steps, guidance and windows of your own.",
                ),
                io.Boolean.Input(
                    "interpolate", default=True, tooltip="25 frames per second by RIFE; off gives the network's 12.5."
                ),
                io.Float.Input(
                    "audio_scale",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Strength of the speech adapter; 0 switches it off.",
                ),
                io.Float.Input(
                    "emotion_scale",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    advanced=True,
                    tooltip="Strength of the emotion adapter; 0 switches it off.",
                ),
                io.Float.Input(
                    "motion_bucket",
                    default=8.0,
                    min=0.0,
                    max=255.0,
                    step=1.0,
                    advanced=True,
                    tooltip="Amount of head motion asked for.",
                ),
                io.Float.Input(
                    "expression_bucket",
                    default=16.0,
                    min=0.0,
                    max=255.0,
                    step=1.0,
                    advanced=True,
                    tooltip="Amount of facial motion asked for.",
                ),
                io.Float.Input(
                    "noise_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Part of the noise range that is used; below 1 the clip stays closer to the still picture.",
                ),
                io.Float.Input(
                    "portrait_noise",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="Noise added to the portrait before it is encoded.",
                ),
                io.Boolean.Input(
                    "batched_guidance",
                    default=True,
                    advanced=True,
                    tooltip="Run the three guidance branches together; off is slower and needs a third of the memory. "
                    "Switched off by itself when memory runs out.",
                ),
                io.Int.Input(
                    "key_value_budget",
                    default=1024,
                    min=0,
                    max=1 << 20,
                    advanced=True,
                    tooltip="Megabytes that projected speech and emotion tokens may occupy, each; beyond that they are "
                    "projected again for every window.",
                ),
                io.Int.Input(
                    "decode_chunk",
                    default=10,
                    min=1,
                    max=250,
                    advanced=True,
                    tooltip="Frames decoded together; released: 10. Another number changes the pictures slightly.",
                ),
                io.Boolean.Input(
                    "retrieval",
                    default=False,
                    optional=True,  # prompts from before have no such input
                    advanced=True,
                    tooltip="Let each emotion attend to its nearest entry of the emotion bank alone, as in training, "
                    "instead of the whole bank.",
                ),
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
        return choice_verdict("preset", preset, PRESETS)

    @classmethod
    def refusals(cls, inputs: Mapping[str, Any]) -> Mapping[str, str]:
        return setting_refusals(inputs)

    @classmethod
    def execute(
        cls,
        model: HostedModel,
        portrait: Portrait,
        speech: EncodedSpeech,
        emotion: Emotion,
        preset: Mapping[str, Any],
        interpolate: bool,
        decode_chunk: int,
        **values: Any,
    ) -> io.NodeOutput:
        check_portrait(model, portrait)
        check_speech(model, speech)
        check_emotion(model, emotion, "emotion")
        settings = sampler_settings(model.dice.config.sampling, preset, **values)
        dice, residency, sound = model.dice, model.residency, speech.speech
        hooks = comfy_hooks(SHARES)
        if interpolate and dice.flownet is None:
            hooks.notice("The model has no frame interpolation (RIFE): the clip has 12.5 frames per second.")
            interpolate = False
        fps = 2 * FPS if interpolate else FPS
        frames = frames_to_cover(sound.sound.shape[1], sound.sound_sample_rate, fps)
        check_room(frames, *portrait.image.shape[-2:])

        encoded = model.encode(portrait, settings, hooks)
        colours = LatentPreview.fit(portrait.image, encoded.start_latents)
        shown = with_preview(hooks, clip_preview(colours, speech.features.frames))
        latents = denoise(dice, encoded, speech.features, emotion.track, settings, residency=residency, hooks=shown)
        clip = render(
            dice, latents, decode_chunk=decode_chunk, interpolate=interpolate, residency=residency, hooks=hooks
        )
        # Whole frames rarely end with the sound: the last one is held so that no syllable is cut.
        images = to_images(hold_last_frame(clip.chunks, frames), frames)
        audio = to_audio(sound)
        samples = latents.values[: latents.frames] / dice.config.vae.scaling_factor
        return io.NodeOutput(images, audio, fps, to_video(images, audio, fps), {"samples": samples})


def _custom_inputs() -> list[io.Input]:
    """What the preset `custom` asks for."""
    return [
        io.Int.Input(
            "steps",
            default=25,
            min=1,
            max=1000,
            tooltip="Denoising steps; fewer are faster and rougher.",
        ),
        io.Float.Input(
            "portrait_guidance",
            default=3.0,
            min=-100.0,
            max=100.0,
            step=0.1,
            tooltip="How strongly the portrait is followed.",
        ),
        io.Float.Input(
            "expression_guidance",
            default=6.0,
            min=-100.0,
            max=100.0,
            step=0.1,
            tooltip="How strongly speech and emotion are followed.",
        ),
        io.Float.Input(
            "portrait_guidance_change",
            default=0.0,
            min=-100.0,
            max=100.0,
            step=0.1,
            advanced=True,
            tooltip="By how much portrait_guidance has changed at the last step.",
        ),
        io.Float.Input(
            "expression_guidance_change",
            default=0.0,
            min=-100.0,
            max=100.0,
            step=0.1,
            advanced=True,
            tooltip="By how much expression_guidance has changed at the last step.",
        ),
        io.Combo.Input(
            "schedule",
            options=list(SCHEDULES),
            default="reference",
            advanced=True,
            tooltip="reference pads the clip by one window, as released; tight does not, which "
            "needs fewer windows on short clips.",
        ),
        io.Int.Input(
            "window",
            default=25,
            min=1,
            max=1000,
            advanced=True,
            tooltip="Frames denoised together; the released network was trained with 25.",
        ),
        io.Int.Input(
            "overlap",
            default=0,
            min=0,
            max=999,
            advanced=True,
            tooltip="Frames that neighbouring windows share; more is smoother and slower.",
        ),
        io.Int.Input(
            "shift",
            default=7,
            min=0,
            max=1000,
            advanced=True,
            tooltip="Frames by which the windows move each step.",
        ),
    ]
