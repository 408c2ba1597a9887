"""Inputs of the commands of ``dicetalk emotion``: a model's presets and bank, speech, and files."""

import argparse
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from dicetalk.audio.speech import Speech, load_speech
from dicetalk.checkpoints.files import EMOTION_MODEL, PRIORS
from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.parts import dice_parts, expecting
from dicetalk.checkpoints.strict import fill
from dicetalk.config import FULL
from dicetalk.emotion.bank import EmotionModel
from dicetalk.emotion.files import SavedEmotion, check_suffix, save_emotion
from dicetalk.emotion.parse import Hear
from dicetalk.emotion.prior import EmotionPrior, load_prior, space_of
from dicetalk.emotion.track import EmotionTrack
from dicetalk.emotion.voice.features import measure_voice
from dicetalk.errors import CheckpointError, SettingError
from dicetalk.files import check_file_target, check_no_input
from dicetalk.hooks import Hooks


def read_presets(folder: Path) -> dict[str, EmotionPrior]:
    """The eight presets of a model folder; nothing else of it is needed.

    Raises:
        CheckpointError: one is missing, or the folder's model has no emotions.
        EmotionError: one is damaged.
    """
    found = find_files(folder)
    if not found.variant.priors:
        raise CheckpointError(
            f"{folder} holds {found.variant.what}, which has no emotions. Give the folder of DICE-Talk, or tiny."
        )
    missing = [file.name for file in PRIORS.values() if file not in found.paths]
    if missing:
        raise CheckpointError(
            f"{folder}: the emotion priors {', '.join(missing)} are missing. `dicetalk download` fetches them."
        )
    return {emotion: load_prior(found.paths[file]) for emotion, file in PRIORS.items()}


def read_emotion_model(folder: Path) -> EmotionModel | None:
    """The emotion model of a folder in float32, or none if it is not there or was trained without the bank.

    Raises:
        CheckpointError: it is damaged.
    """
    with expecting(EMOTION_MODEL):
        parts, _, bank = dice_parts(find_files(folder), FULL)
        for part in parts:
            if part.field == "emotion_model" and bank != "none":
                network = part.build()
                tensors = part.read(list(network.state_dict()))
                model = fill(part.path, network, tensors, torch.float32, part.may_lack)
                assert isinstance(model, EmotionModel)
                return model
    return None


def hearing(path: Path | None, hooks: Hooks, stream: int | None = None) -> tuple[Callable[[], Speech], Hear]:
    """What loads the speech at `path`, and what measures it; each works once, when it is first asked."""

    @cache
    def listen() -> Speech:
        if path is None:
            raise SettingError("The emotion follows the speech: give it with --audio.")
        return load_speech(path, stream=stream, hooks=hooks)

    return listen, cache(lambda: measure_voice(listen().samples, hooks))


def check_out(options: argparse.Namespace) -> None:
    """Find out before the work whether the result can be saved as ``options.out``.

    Raises:
        EmotionError: the name does not end in ``.safetensors``.
        OutputError: the file cannot be written.
    """
    check_suffix(options.out)
    check_file_target(options.out)


def check_no_preset(out: Path, folder: Path) -> None:
    """Find out before the work whether the result would replace a file of the model.

    Raises:
        OutputError: it would.
    """
    check_no_input(out, {f"{file.what} of the model": path for file, path in find_files(folder).paths.items()})


def save_track(options: argparse.Namespace, track: EmotionTrack, priors: dict[str, EmotionPrior]) -> None:
    """Write the result of a command to ``options.out`` and tell so; a constant track is saved as one emotion."""
    emotion = track.keyframes[0].prior if track.is_constant else track
    save_emotion(SavedEmotion(emotion, space_of(priors), options.source, options.licence), options.out)
    length = "one emotion" if track.is_constant else f"a track of {track.end:.2f} s"
    print(f"{printable(options.out)}: {length}")


def printable(path: Path) -> str:
    """The name of a file, also one whose bytes are no text."""
    return str(path).encode(errors="replace").decode()
