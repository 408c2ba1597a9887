"""``dicetalk emotion extract``."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicetalk.checkpoints.files import DETECTOR, EMBEDDER, READER
from dicetalk.checkpoints.find import find_files
from dicetalk.checkpoints.single import load_embedder, load_expression_reader
from dicetalk.cli.checks import refuse_idle
from dicetalk.cli.emotion_inputs import check_no_preset, check_out, printable, read_presets
from dicetalk.cli.model_folder import found_folder, open_ears
from dicetalk.emotion.embedder import EmotionEmbedder
from dicetalk.emotion.files import SavedEmotion, save_emotion
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior, space_of
from dicetalk.emotion.recognise.recogniser import load_recogniser
from dicetalk.emotion.reference.blendshapes import BlendshapeReader, MediaPipeBlendshapes
from dicetalk.emotion.reference.clip import Reference, open_reference
from dicetalk.emotion.reference.expressions import ReadExpressions
from dicetalk.emotion.reference.extract import Embedding, ExtractedEmotion, Recognition, extract_emotion
from dicetalk.emotion.reference.face_track import FaceReader
from dicetalk.errors import CheckpointError, SettingError
from dicetalk.portrait.detector import choose_detector
from dicetalk.progress import Bars
from dicetalk.residency import DeviceResidency, choose_device


def extract(options: argparse.Namespace) -> int:
    """Take the emotion that `options` describe, and save it."""
    with Bars(quiet=True) as bars:
        notices = bars.hooks
        folder = found_folder(options.models, bars.hooks)
    priors = read_presets(folder)
    has_embedder = EMBEDDER in find_files(folder).paths
    if options.by == "embedder" and not has_embedder:
        raise CheckpointError(f"{folder} holds no {EMBEDDER.name}; the released model has none. Use --by recogniser.")
    by_embedder = has_embedder if options.by == "auto" else options.by == "embedder"
    _check_options(options, by_embedder)
    check_out(options)
    check_no_preset(options.out, folder)
    residency = DeviceResidency(choose_device(options.device))
    reference = open_reference(options.clip, stream=options.audio_stream, hooks=notices)
    with Bars(options.quiet) as bars, _way(options, folder, priors, reference, residency, by_embedder) as way:
        found = extract_emotion(
            reference,
            way,
            as_track=options.track,
            smoothing=options.smoothing,
            detector=choose_detector(find_files(folder).paths.get(DETECTOR), residency, bars.hooks),
            residency=residency,
            hooks=bars.hooks,
        )
    source = options.source or options.clip.name
    save_emotion(SavedEmotion(found.emotion, space_of(priors), source, options.licence), options.out)
    print(f"{printable(options.out)}: {_summary(found)}")
    return 0


@contextmanager
def _way(
    options: argparse.Namespace,
    folder: Path,
    priors: dict[str, EmotionPrior],
    reference: Reference,
    residency: DeviceResidency,
    by_embedder: bool,
) -> Iterator[Recognition | Embedding]:
    if not by_embedder:
        yield Recognition(load_recogniser(options.recogniser), priors, options.strength)
        return
    embedder = load_embedder(find_files(folder).paths[EMBEDDER])
    wants_sound = options.modality in ("auto", "audio", "both") and reference.speech is not None
    listen = open_ears(folder, residency.device) if wants_sound else None
    with _express(options, folder, embedder, residency) as express:
        yield Embedding(embedder, express, listen, options.modality, options.window)


@contextmanager
def _express(
    options: argparse.Namespace, folder: Path, embedder: EmotionEmbedder, residency: DeviceResidency
) -> Iterator[FaceReader | None]:
    """What reads the coefficients that the embedder was trained on, or none if only the voice is heard."""
    path = find_files(folder).paths.get(READER)
    if options.modality == "audio":
        yield None
    elif options.landmarker is not None:
        with MediaPipeBlendshapes(options.landmarker) as blendshapes:
            yield BlendshapeReader(blendshapes)
    elif path is not None:
        yield ReadExpressions(load_expression_reader(path), residency)
    else:
        raise SettingError(
            f"The embedder of {folder} wants {embedder.config.visual_dim} expression coefficients, and there is no "
            f"{READER.name} to read them. Give --landmarker for MediaPipe's blendshapes, or --modality audio."
        )


def _check_options(options: argparse.Namespace, by_embedder: bool) -> None:
    """Refuse what has no influence on the way that is gone."""
    others = ["recogniser", "strength"] if by_embedder else ["landmarker", "modality", "window"]
    way = "embedder" if by_embedder else "recogniser"
    refuse_idle(options, others, f"by {way}", "choose the other way with --by")
    if not options.track:
        refuse_idle(options, ["window", "smoothing"], "on one emotion", "add --track")


def _summary(found: ExtractedEmotion) -> str:
    lost = sum(span.end - span.start for span in found.lost)
    parts = [f"{lost:.1f} s without a face"] if found.lost else []
    if found.scores is not None:
        mean = found.scores.mean(axis=0)
        shown = sorted(zip(PRESET_NAMES, mean, strict=True), key=lambda pair: -pair[1])
        return ", ".join([f"{name} {score:.0%}" for name, score in shown if score >= 0.05] + parts)
    return ", ".join([" and ".join(["face"] * found.seen + ["voice"] * found.heard), *parts])
