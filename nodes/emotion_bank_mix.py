"""Emotion Bank Mix."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

from dicetalk.emotion.algebra import sample, scale, weighted_mix
from dicetalk.emotion.compare import bank_attention
from dicetalk.emotion.files import mix_from_json
from dicetalk.emotion.mix import NEUTRAL, mix
from dicetalk.emotion.show import plot_bank_attention
from dicetalk.emotion.track import EmotionTrack

from .checks import NAMES_ALONE, verdict
from .convert import to_image
from .hooks import SHOWN_AGAIN, comfy_hooks, keeps_notices
from .prompts import SettledNode, numbers
from .wires import CATEGORY, Emotion, EmotionWire, HostedModel, ModelWire, check_emotion

FIRST, MORE = "ab", "cdefgh"
"""Letters of the emotions that can be wired: two that were always there, and those that grow."""

DEFAULT_MIX = '{"weights": {"happy": 1.0}, "intensity": 1.0}'


class EmotionBankMix(SettledNode):
    """Presets and wired emotions to one emotion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        weight = {"default": 1.0, "min": 0.0, "max": 2.0, "step": 0.01}
        return io.Schema(
            node_id="DICETalk_EmotionBankMix",
            **SHOWN_AGAIN,
            display_name="Emotion Bank Mix",
            category=CATEGORY,
            description="Mixes the eight presets and emotions from other nodes. Weights and intensity act on the "
            "difference to neutral.",
            search_aliases=["emotion", "happy", "sad", "angry", "expression", "mood"],
            inputs=[
                ModelWire.Input("model", tooltip="From Load DICE Model; it brings the presets and the bank."),
                io.String.Input(
                    "emotions",
                    default=DEFAULT_MIX,
                    extra_dict={"widgetType": "DICETALK_EMOTION_PAD"},
                    tooltip="Weights from 0 to 2 of neutral, happy, sad, angry, surprised, fear, disgusted, contempt "
                    'and the intensity of all, as JSON: {"weights": {"happy": 0.8, "sad": 0.2}, "intensity": 1.0}',
                ),
                EmotionWire.Input(
                    "emotion_a", optional=True, tooltip="An emotion to mix in, from Extract or Load Emotion."
                ),
                io.Float.Input("weight_a", **weight, tooltip="Weight of emotion_a; used while it is connected."),
                EmotionWire.Input("emotion_b", optional=True, tooltip="A second emotion to mix in."),
                io.Float.Input("weight_b", **weight, tooltip="Weight of emotion_b; used while it is connected."),
                io.Float.Input(
                    "temperature",
                    default=0.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    advanced=True,
                    tooltip="How far the emotion is drawn from around its mean, in its own standard deviations: 0 is "
                    "the mean, 1 as in training. Only emotions that know their spread can be drawn from.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**64 - 1,
                    # A seed that changes by itself would mix and sample anew at every run, mostly for nothing.
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    advanced=True,
                    tooltip="Of the draw; has no effect at temperature 0.",
                ),
                io.Autogrow.Input(
                    "more",
                    optional=True,
                    template=io.Autogrow.TemplateNames(
                        EmotionWire.Input("emotion", optional=True, tooltip="A further emotion to mix in."),
                        names=[f"emotion_{letter}" for letter in MORE],
                        min=0,
                    ),
                    tooltip="Further emotions to mix in: with each one connected there is place for another, up to "
                    f"emotion_{MORE[-1]}.",
                ),
                *(
                    io.Float.Input(
                        f"weight_{letter}",
                        optional=True,
                        **weight,
                        tooltip=f"Weight of emotion_{letter}; used while it is connected.",
                    )
                    for letter in MORE
                ),
            ],
            outputs=[
                EmotionWire.Output("emotion", tooltip="For DICE Sampler or Save Emotion."),
                io.Image.Output("preview", tooltip="The mix, and how it attends to the prototypes of the bank."),
            ],
        )

    @classmethod
    def validate_inputs(cls, emotions: str | None = None, more: Any = None) -> bool | str:
        """Check the values that are known before the workflow runs."""
        return verdict(lambda: emotions is None or _check_text(emotions))

    @classmethod
    def dead_inputs(cls, inputs: Mapping[str, Any]) -> Iterable[str]:
        """Names of inputs that have no influence beside the others."""
        wired = {name.rpartition("_")[2] for name in inputs if name.startswith(("emotion_", "more.emotion_"))}
        dead = [f"weight_{letter}" for letter in (*FIRST, *MORE) if letter not in wired]
        return [*dead, "seed"] if numbers(inputs, "temperature") == [0] else dead

    @classmethod
    @keeps_notices
    def execute(
        cls,
        model: HostedModel,
        emotions: str,
        weight_a: float,
        weight_b: float,
        temperature: float,
        seed: int,
        emotion_a: Emotion | None = None,
        emotion_b: Emotion | None = None,
        more: Mapping[str, Emotion] | None = None,
        **weights: float,
    ) -> io.NodeOutput:
        """Mix the presets and the wired emotions, and sample the result if a temperature asks for it."""
        priors = model.presets
        wanted = mix_from_json(emotions)
        hooks, parts = comfy_hooks({}), []
        wired = {"emotion_a": emotion_a, "emotion_b": emotion_b, **(more or {})}
        weights |= {"weight_a": weight_a, "weight_b": weight_b}
        for name, emotion in wired.items():
            if emotion is not None:
                check_emotion(model, emotion, name)
                weight = weights.get(name.replace("emotion", "weight"), 1.0)
                if not weight:
                    hooks.notice(f"{name} is connected, but has no part: its weight is 0.")
                parts.append((emotion.track, weight))
        if wanted.weights:
            parts.append((EmotionTrack.constant(mix(wanted.weights, priors)), 1.0))
        if parts and not wanted.intensity:
            hooks.notice("The intensity is 0: nothing of the mix is left but neutral.")
        mixed = scale(weighted_mix(parts, priors[NEUTRAL]), wanted.intensity, priors[NEUTRAL])
        if temperature:
            mixed = sample(mixed, temperature, seed)
        # Not in the node itself, which is large enough with the pad: Preview Image shows it where it is wanted.
        preview = to_image(_attention_picture(model, mixed))
        return io.NodeOutput(model.emotion(mixed), preview, ui=hooks.shown())


def _check_text(emotions: str) -> None:
    """Raise :class:`dicetalk.errors.EmotionError` for a mix that no model could make."""
    wanted = mix_from_json(emotions)
    mix(wanted.weights, NAMES_ALONE, wanted.intensity)


def _attention_picture(model: HostedModel, track: EmotionTrack) -> np.ndarray:
    moments = {"mix": 0.0} if track.is_constant else {"start": 0.0, "middle": track.end / 2, "end": track.end}
    means = track.at(list(moments.values())).mu
    names = [*moments, *model.presets]
    rows = torch.cat([means, torch.stack([prior.mu for prior in model.presets.values()])])
    return plot_bank_attention(names, bank_attention(model.dice.emotion_model, rows, model.residency), dark=True)
