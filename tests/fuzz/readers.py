"""Every reader of the library, as targets."""

import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.speech import SAMPLES_PER_FRAME, load_speech
from dicetalk.checkpoints.doctor import inspect_model
from dicetalk.checkpoints.packed import read_packed
from dicetalk.checkpoints.read import read_tensors
from dicetalk.checkpoints.single import load_embedder, load_expression_reader
from dicetalk.config import AudioConfig
from dicetalk.drawn.evaluate.judge_training import load_judges
from dicetalk.drawn.train.config import TinyTraining
from dicetalk.emotion.files import SavedEmotion, import_npy, load_emotion, mix_from_json, read_track, save_emotion
from dicetalk.emotion.parse import parse_emotion, read_emotion
from dicetalk.emotion.prior import PRESET_NAMES, PRIOR_DIM, EmotionPrior, load_prior, read_prior_npy
from dicetalk.emotion.recognise.description import read_description
from dicetalk.emotion.recognise.recogniser import load_recogniser
from dicetalk.emotion.reference.clip import open_reference
from dicetalk.emotion.voice.classes import load_voice_classifier
from dicetalk.emotion.voice.features import VoiceFeatures, measure_voice
from dicetalk.errors import DiceTalkError
from dicetalk.hooks import Hooks
from dicetalk.portrait.faces import FaceBox
from dicetalk.portrait.read import read_picture
from dicetalk.portrait.torchscript import load_torchscript
from dicetalk.train.checkpoint import load_newest, save_checkpoint
from dicetalk.train.clip_record import ClipLabels
from dicetalk.train.config import DiffusionTraining, EmbedderTraining, read_config
from dicetalk.train.curves import Curves
from dicetalk.train.prepare.datasets import find_videos
from dicetalk.train.prepare.video import VideoMaker
from dicetalk.train.shards import ShardWriter, list_clips, read_clip
from fuzz import seeds
from fuzz.case import Files, Seeds, Target, one_file, one_of_several, only
from fuzz.mutate import STRINGS, mutate_bytes, mutate_json, mutate_safetensors, mutate_text, mutate_zip
from fuzz.node_inputs import read_prompt, write_prompt
from fuzz.onnx_models import mutate_onnx, onnx_models

QUIET = Hooks(notice=lambda _: None)
MOST_PICTURES = 40
CONFIGS = {"embedder": EmbedderTraining, "diffusion": DiffusionTraining, "tiny": TinyTraining}


def targets() -> list[Target]:
    """All of them; their names stay, because a seed chooses by the order here."""
    sounds, films, pictures, captions = map(Seeds, (seeds.sounds, seeds.films, seeds.pictures, seeds.captions))
    media = Seeds(lambda: {**sounds.files, **films.files})
    arrays, emotions, tables = map(Seeds, (seeds.arrays, seeds.emotions, seeds.tables_of_tensors))
    weights = Seeds(_weights)
    voice()  # its packages take seconds to import, which are no case's
    return [
        one_file("speech", media, mutate_bytes, lambda path: load_speech(path, hooks=QUIET)),
        one_file("reference", Seeds(lambda: {**media.files, **pictures.files}), mutate_bytes, _reference),
        one_file("training-video", films, mutate_bytes, _training_video),
        one_file("picture", pictures, mutate_bytes, read_picture),
        one_file("captions", captions, _text, _captions),
        one_file("words", Seeds(seeds.words), _text, _words),
        Target("track", _write_track, _track),
        one_file("npy", arrays, mutate_bytes, _npy),
        one_file("emotion", emotions, mutate_safetensors, _emotion),
        one_file("tensors", tables, mutate_zip_or_bytes, read_tensors),
        one_file("weights", weights, mutate_safetensors, _read_weights),
        one_of_several("whisper", Seeds(_whisper), {".json": _json, ".safetensors": mutate_safetensors}, _doctor),
        one_file("torchscript", Seeds(seeds.scripts), mutate_zip, load_torchscript),
        one_file("config", Seeds(seeds.configs), _text, _config),
        one_of_several("data-table", Seeds(seeds.data_table), {".csv": _text}, _data_table),
        one_of_several("curves", Seeds(_curve), {".csv": _text}, lambda folder: Curves(folder, 5).close()),
        one_of_several("shards", Seeds(_shard), {".safetensors": mutate_safetensors}, _shards),
        one_of_several(
            "checkpoint", Seeds(_checkpoint), {".pt": mutate_zip}, lambda folder: load_newest(folder, QUIET)
        ),
        Target("description", _write_description, lambda folder: read_description(only(folder))),
        one_of_several("onnx", Seeds(onnx_models), {".onnx": mutate_onnx, ".json": _json}, _recogniser),
        one_of_several(
            "voice-classifier",
            Seeds(_classifier),
            {".json": _json, ".safetensors": mutate_safetensors},
            load_voice_classifier,
        ),
        Target("names", _write_name, _name),
        Target("node-prompt", write_prompt, lambda folder: read_prompt(only(folder), presets())),
    ]


@cache
def presets() -> Mapping[str, EmotionPrior]:
    generator = torch.Generator().manual_seed(0)
    return {name: EmotionPrior(torch.randn(PRIOR_DIM, generator=generator), name=name) for name in PRESET_NAMES}


@cache
def voice() -> VoiceFeatures:
    return measure_voice(np.tile(seeds.hum().mean(axis=1), 4), QUIET)


def _first_that_works(path: Path, *readers: Any) -> None:
    """Read a file in several ways; the last refusal counts."""
    refused: DiceTalkError | None = None
    for read in readers:
        try:
            read(path)
            refused = None
        except DiceTalkError as error:
            refused = error
    if refused is not None:
        raise refused


def _text(rng: random.Random, data: bytes, others: Iterable[bytes]) -> bytes:
    return mutate_text(rng, data.decode(), [other.decode() for other in others])


def _json(rng: random.Random, data: bytes, others: object) -> bytes:
    return mutate_json(rng, json.loads(data))


def mutate_zip_or_bytes(rng: random.Random, data: bytes, others: Any) -> bytes:
    return (mutate_zip if data.startswith(b"PK") else mutate_bytes)(rng, data, others)


def _reference(path: Path) -> None:
    reference = open_reference(path)
    if reference.pictures is not None:
        for _ in itertools.islice(reference.pictures(), MOST_PICTURES):
            pass
    if reference.speech is not None:
        reference.speech()


class _Square:
    """Takes what moves in the films of the seeds for a face."""

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        return [FaceBox(28.0, 16.0, 40.0, 40.0)]


def _states(samples: np.ndarray) -> SpeechFeatures:
    frames = len(samples) // SAMPLES_PER_FRAME
    return SpeechFeatures(torch.zeros(4 * frames + 10, 2, 4), frames, frames / 12.5)


def _training_video(path: Path) -> None:
    from dicetalk.train.prepare.datasets import SourceVideo

    source = SourceVideo("clip", path, path, ClipLabels("anna", "happy", 0.6, "clip", "train"))
    for _ in VideoMaker(_states, _Square(), 64)(source):
        pass


def _captions(path: Path) -> None:
    read_emotion(path, presets(), voice, QUIET)


def _words(path: Path) -> None:
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return
    parse_emotion(text, presets(), voice, QUIET)


def _write_track(rng: random.Random, folder: Path) -> None:
    (folder / "case.json").write_bytes(mutate_json(rng, rng.choice(seeds.TRACKS)))


def _track(folder: Path) -> None:
    _first_that_works(
        only(folder), lambda path: mix_from_json(path.read_bytes()), lambda path: read_track(path, presets())
    )


def _npy(path: Path) -> None:
    _first_that_works(path, read_prior_npy, load_prior, lambda path: import_npy(path, seeds.SPACE))


def _emotion(path: Path) -> None:
    _first_that_works(path, load_prior, lambda path: load_emotion(path, None))


def _weights() -> Files:
    """Every kind of safetensors file; the bundled ones are too large to be changed thousands of times."""
    from small_models import SMALL_MODEL, write_small_model
    from training_runs import EMBEDDER

    from dicetalk.checkpoints.single import save_embedder
    from dicetalk.train.embedder import build_embedder

    def write(folder: Path) -> None:
        write_small_model(folder / "model")
        save_embedder(build_embedder(EMBEDDER, 0), folder / "embedder.safetensors")

    assert SMALL_MODEL
    files = seeds.in_folder(write)
    judges = (Path(__file__).parents[1] / "unit/data/judges.safetensors").read_bytes()
    reader = (seeds.ROOT / "dicetalk/assets/tiny/expression_reader.safetensors").read_bytes()
    kept = {"embedder.safetensors", "model/dicetalk.safetensors"}
    return {name: files[name] for name in kept} | {"judges.safetensors": judges, "reader.safetensors": reader}


def _read_weights(path: Path) -> None:
    _first_that_works(path, read_tensors, read_packed, load_embedder, load_expression_reader, load_judges)


def _whisper() -> Files:
    from released_files import write_whisper

    return seeds.in_folder(lambda folder: write_whisper(folder / "whisper-tiny", AudioConfig(layers=3, channels=32)))


def _doctor(folder: Path) -> None:
    inspect_model(folder)


def _config(path: Path) -> None:
    _first_that_works(path, *(partial(read_config, kind=kind) for kind in CONFIGS.values()))


def _data_table(folder: Path) -> None:
    find_videos(folder)
    find_videos(folder, "csv")


def _curve() -> Files:
    return {"train.csv": b"step,loss,rate\n1,0.5,0.1\n5,0.4,0.1\n9,0.3,0.1\n"}


def _shard() -> Files:
    from training_runs import CLIPS, FRAMES, picture_frames

    def write(folder: Path) -> None:
        generator = torch.Generator().manual_seed(0)
        with ShardWriter(folder) as writer:
            for name, identity, emotion, intensity, split in CLIPS[:2]:
                tensors = {
                    "box": torch.tensor([8.0, 6.0, 16.0, 20.0]),
                    "whisper": torch.randn(4 * FRAMES + 10, 2, 4, generator=generator).half(),
                    "frames": picture_frames(generator),
                }
                writer.add(name, ClipLabels(identity, emotion, intensity, name, split), tensors)

    return seeds.in_folder(write)


def _shards(folder: Path) -> None:
    for record in list_clips(folder, hooks=QUIET):
        read_clip(record)


def _checkpoint() -> Files:
    state = {"step": 3, "model": {"a": torch.randn(3)}, "names": ["a"]}
    return seeds.in_folder(lambda folder: save_checkpoint(folder, 3, state, 1))


def _write_description(rng: random.Random, folder: Path) -> None:
    (folder / "case.json").write_bytes(mutate_json(rng, seeds.description()))


def _recogniser(folder: Path) -> None:
    path = folder / "model.onnx"
    side = load_recogniser(path).crop.size
    recogniser = load_recogniser(path)
    recogniser(np.zeros((1, side, side, 3), np.uint8))


def _classifier() -> Files:
    """A very small audio classifier, as `save_pretrained` writes it."""
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_stride=(5, 4),
        conv_kernel=(10, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        num_labels=3,
        id2label={0: "happy", 1: "sad", 2: "other"},
    )

    def write(folder: Path) -> None:
        torch.manual_seed(0)
        Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
        Wav2Vec2FeatureExtractor().save_pretrained(folder)

    return seeds.in_folder(write)


SUFFIXES = (
    "",
    ".wav",
    ".png",
    ".mp4",
    ".json",
    ".srt",
    ".txt",
    ".npy",
    ".safetensors",
    ".onnx",
    ".yaml",
    ".pt",
    ".csv",
)


def _write_name(rng: random.Random, folder: Path) -> None:
    """A name that no file has."""
    parts = [
        rng.choice((*STRINGS[1:12], "a", "é", "\n", "|", "*", "?", "con", " ", "file:a", "http://a")) for _ in range(2)
    ]
    name = rng.choice(("", "/", "\\", ".")).join(parts) + rng.choice(SUFFIXES)
    (folder / "name.json").write_text(json.dumps(name))


def _name(folder: Path) -> None:
    path = folder / json.loads(only(folder).read_text())
    for read in _readers_of_names():
        try:
            read(path)
        except DiceTalkError:
            continue


def _readers_of_names() -> Iterator[Any]:
    yield from (load_speech, open_reference, read_picture, _captions, lambda path: read_track(path, presets()))
    yield from (read_prior_npy, load_prior, _npy, _emotion, read_tensors, _read_weights, load_torchscript)
    yield from (_config, find_videos, list_clips, read_description, load_recogniser, load_voice_classifier)
    yield from (inspect_model, lambda path: load_newest(path, QUIET))
    yield lambda path: save_emotion(SavedEmotion(presets()["happy"], seeds.SPACE), path)
    yield lambda path: parse_emotion(str(path), presets(), voice, QUIET)
