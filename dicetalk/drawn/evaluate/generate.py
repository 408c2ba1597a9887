"""Makes takes with the networks, by the same functions that every other video is made by."""

from dataclasses import dataclass, replace

import torch

from dicetalk.audio.features import STEPS_PER_FRAME
from dicetalk.audio.speech import Speech, load_speech
from dicetalk.audio.whisper import speech_features
from dicetalk.checkpoints.load import DiceModel
from dicetalk.drawn.clips import UNSEEN_SIZE, TrainingClip, make_clip
from dicetalk.drawn.evaluate.takes import Shot, Sound, Take, asked_weights, change_moments, drawn_portrait
from dicetalk.drawn.voices import sentences
from dicetalk.emotion.mix import mix
from dicetalk.emotion.prior import EmotionPrior
from dicetalk.emotion.reference.embed import audio_states, embed_prior
from dicetalk.emotion.track import EmotionTrack, Keyframe
from dicetalk.errors import EmotionError
from dicetalk.evaluate.mouth import mouth_curve
from dicetalk.hooks import SILENT, Hooks
from dicetalk.pipeline import generate_latents, render
from dicetalk.portrait.prepare import Portrait, prepare_portrait
from dicetalk.residency import CPU, Residency
from dicetalk.settings import FPS, SamplerSettings
from dicetalk.video import collect


@dataclass(frozen=True)
class Maker:
    """Makes shots.

    Args:
        model: all networks.
        settings: of the sampler; each take brings its own seed.
        size: side of the pictures in pixels.
        residency: where networks run.
        hooks: asked to stop before each expensive call.
    """

    model: DiceModel
    settings: SamplerSettings
    size: int
    residency: Residency = CPU
    hooks: Hooks = SILENT

    def __call__(self, take: Take, sound: Sound) -> Shot:
        """Make one take.

        Raises:
            SpeechError: espeak-ng, which speaks for the clip that the prior is taken from, is missing or fails.
        """
        quiet = Hooks(cancelled=self.hooks.cancelled, notice=lambda _: None)  # silence is meant
        speech = load_speech(sound, hooks=quiet)
        latents = generate_latents(
            self.model,
            take_portrait(take, self.size, self.model.config.image_encoder.image_size),
            speech,
            self.track(take, speech),
            replace(self.settings, seed=take.seed),
            residency=self.residency,
            hooks=quiet,
        )
        clip = render(self.model, latents, interpolate=False, residency=self.residency, hooks=quiet)
        pixels = collect(clip.chunks, clip.frames).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
        mouth, _ = mouth_curve(*sound, clip.frames, FPS)
        return Shot(take, pixels, mouth, asked_weights(take, clip.frames))

    def track(self, take: Take, speech: Speech) -> EmotionTrack:
        """The priors of a take, whose speech is given."""
        if take.source is not None:
            return EmotionTrack.constant(self.prior_of(take))
        shown = [mix({name: take.intensity}, self.model.priors) for name in take.emotions]
        moments = change_moments(take, speech.frames / FPS)
        return EmotionTrack(tuple(Keyframe(*at, "smooth") for at in zip(moments, shown, strict=True)))

    def prior_of(self, take: Take) -> EmotionPrior:
        """The prior that the embedder takes from a clip of the take's source."""
        lines = sentences("test")
        clip = make_clip(
            take.giver, take.emotions[0], take.intensity, lines[take.seed % len(lines)], take.seed, size=UNSEEN_SIZE
        )
        return embed_clip(self.model, clip, self.residency)


def take_portrait(take: Take, size: int, clip_size: int) -> Portrait:
    """The portrait of a take; the face lies where it was drawn."""
    drawn = drawn_portrait(take, size)
    x, y, width, height = map(float, drawn.box)
    return prepare_portrait(drawn.pixels, box=(x, y, width, height), short_side=size, clip_size=clip_size)


def embed_clip(
    model: DiceModel, clip: TrainingClip, residency: Residency = CPU, *, see: bool = True, hear: bool = True
) -> EmotionPrior:
    """The emotion prior of a drawn clip, of its true expression coefficients and its sound, or of one of them.

    Raises:
        EmotionError: the model has no embedder.
    """
    if model.embedder is None:
        raise EmotionError("This model has no embedder, which alone takes a prior from a clip.")
    visual, audio, frames = torch.from_numpy(clip.coefficients), None, len(clip.coefficients)
    if hear:
        speech = load_speech((clip.sound, clip.sample_rate), hooks=Hooks(notice=lambda _: None))
        features = speech_features(speech.samples, model.whisper, residency=residency)
        frames = min(features.frames, frames)
        audio = audio_states(features)[: STEPS_PER_FRAME * frames]
    return embed_prior(model.embedder, visual[:frames] if see else None, audio, "-".join(clip.emotions), residency)
