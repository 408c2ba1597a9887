"""Emotion of a voice by a transformers audio classifier out of a local folder.

The folder is looked through before transformers builds what it describes. A config is a description of any network,
with any sizes; transformers makes it without asking whether the weights in the folder are for such a one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch

from dicetalk.audio.speech import MAX_SAMPLE_RATE, SAMPLE_RATE
from dicetalk.emotion.prior import ALIASES, PRESET_NAMES
from dicetalk.emotion.track import MODEL_FPS
from dicetalk.errors import CheckpointError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.paths import checked_path, is_file, read_limited
from dicetalk.residency import CPU, Residency

if TYPE_CHECKING:  # takes seconds to import
    from transformers import FeatureExtractionMixin, PreTrainedModel

WINDOW_SECONDS = 3.0
SHORTEST_SECONDS = 1.0
"""Shorter speech is filled up with silence: the convolutions of a network need some length."""

HOP_SECONDS = 0.5

MAX_STEPS = 3000
"""Features of a window; wav2vec 2.0 makes 149, spectrograms have 300."""

UNUSED_WEIGHTS = ("masked_spec_embed",)
"""Only training uses these; not every folder has them."""

LABELS = {
    "neu": "neutral",
    "calm": "neutral",
    "hap": "happy",
    "exc": "happy",
    "excited": "happy",
    "ang": "angry",
    "fea": "fear",
    "dis": "disgusted",
    "sur": "surprised",
    "ps": "surprised",
}
"""Names of the presets in data sets of emotional speech, beside :data:`~dicetalk.emotion.prior.ALIASES`."""

CONFIG, FEATURES = "config.json", "preprocessor_config.json"
MAX_CONFIG_BYTES = 1 << 20
"""Configs list their labels, with a few hundred of them at most."""

MAX_NUMBER = 1 << 20
"""Largest whole number in a config: vocabularies have some hundred thousand words."""

MAX_LAYERS = 256
MAX_ENTRIES = 10_000


@dataclass(frozen=True, eq=False)
class VoiceClassifier:
    """A classifier of speech.

    Args:
        network: transformers' model for audio classification.
        extractor: makes its inputs.
        classes: what its outputs mean, in order; none for one that is no preset and counts as neutral.
    """

    network: "PreTrainedModel"
    extractor: "FeatureExtractionMixin"
    classes: tuple[str | None, ...]


def load_voice_classifier(folder: Path | str) -> VoiceClassifier:
    """Load a classifier as `save_pretrained` writes it. Only safetensors weights are read, and no code of the folder.

    Raises:
        CheckpointError: the folder is incomplete or damaged, its weights are not all of this network's, its labels are
            not numbered from 0 on, none of them is one of the eight emotions, or the network cannot hear a second of
            silence.
    """
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    folder = _check_folder(folder)
    only_here = {"local_files_only": True, "trust_remote_code": False}
    with _loading(folder):
        _check_size(folder, only_here)
        network, report = AutoModelForAudioClassification.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, **only_here
        )
        extractor = AutoFeatureExtractor.from_pretrained(folder, **only_here)
    _check_whole(folder, report)
    # Saved in half precision it would be loaded so, and sound comes in float32.
    classifier = VoiceClassifier(network.float().eval(), extractor, _classes(folder, network.config.id2label))
    with _loading(folder), torch.no_grad():
        _check_rate(network, extractor)
        _window_scores(np.zeros(SAMPLE_RATE, np.float32), classifier, torch.device("cpu"))
    return classifier


def _check_folder(folder: Path | str) -> Path:
    """`folder`, if it has the files of a classifier and its configs can be those of one.

    Raises:
        CheckpointError: a file is missing, too large or no table in JSON, or asks for more than any classifier.
    """
    folder = checked_path(folder, CheckpointError)
    missing = [name for name in (CONFIG, FEATURES) if not is_file(folder / name)]
    if not list(folder.glob("*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        raise CheckpointError(
            f"{folder} is not a folder of a transformers audio classifier: {', '.join(missing)} is missing."
        )
    for name in (CONFIG, FEATURES):
        _check_numbers(folder / name, _table(folder / name))
    return folder


def _table(path: Path) -> dict[str, Any]:
    content = read_limited(path, MAX_CONFIG_BYTES, CheckpointError, "the classifier's config")
    try:
        table = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON ({error}).") from error
    if not isinstance(table, dict):
        raise CheckpointError(f"{path} is no table of a classifier's entries.")
    return table


def _check_numbers(path: Path, table: dict[str, Any]) -> None:
    waiting: list[tuple[str, Any]] = list(table.items())
    seen = 0
    while waiting:
        name, value = waiting.pop()
        seen += 1
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, each) for each in value]
        elif isinstance(value, int) and abs(value) > (MAX_LAYERS if "layers" in name else MAX_NUMBER):
            raise CheckpointError(f"{path}: {name[:40]} is {str(value)[:40]}, more than any classifier has.")
        if seen > MAX_ENTRIES:
            raise CheckpointError(f"{path} has more than {MAX_ENTRIES} entries; no classifier's config has.")


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """Turn what transformers raises into the library's own error.

    It believes the folder's configs, and stumbles over a wrong entry wherever that is used first, in any way.
    """
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{folder}: the audio classifier cannot be loaded ({reason[:200]}).") from error


def _check_size(folder: Path, options: Mapping[str, bool]) -> None:
    """Refuse a config of a network for which the folder has not nearly enough weights, before it is built."""
    from transformers import AutoConfig, AutoModelForAudioClassification

    with torch.device("meta"):
        network = AutoModelForAudioClassification.from_config(AutoConfig.from_pretrained(folder, **options))
    wanted = sum(parameter.numel() for parameter in network.parameters())
    there = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if wanted > there:
        raise CheckpointError(
            f"{folder}: config.json describes a network of {wanted} weights, and the weights have {there} bytes: they "
            "are of another network, or cut off."
        )


def _check_rate(network: "PreTrainedModel", extractor: "FeatureExtractionMixin") -> None:
    """Refuse sample rates, and numbers of features, whose windows would need gigabytes."""
    rate = extractor.sampling_rate
    if not (isinstance(rate, int) and 1000 <= rate <= MAX_SAMPLE_RATE):
        raise ValueError(f"its sampling_rate is {str(rate)[:40]}; expected 1000 to {MAX_SAMPLE_RATE}")
    lengths = getattr(network, "_get_feat_extract_output_lengths", None)
    steps = 0 if lengths is None else int(lengths(torch.tensor(round(WINDOW_SECONDS * rate))))
    if steps > MAX_STEPS:
        raise ValueError(f"it makes {steps} features of {WINDOW_SECONDS:g} s; expected at most {MAX_STEPS}")


def _classes(folder: Path, named: Mapping[int, Any]) -> tuple[str | None, ...]:
    """Meanings of the outputs, in order; `None` for one that is no preset."""
    if sorted(named) != list(range(len(named))):
        raise CheckpointError(
            f"{folder}: config.json numbers its labels {str(sorted(named))[:80]}; expected 0 to {len(named) - 1}."
        )
    labels = [named[i] for i in range(len(named))]
    classes = tuple(map(_preset, labels))
    if not any(name not in (None, "neutral") for name in classes):
        raise CheckpointError(
            f"{folder}: none of the labels {', '.join(map(str, labels))[:200]} is one of the emotions "
            f"{', '.join(PRESET_NAMES)}."
        )
    return classes


def _check_whole(folder: Path, report: Mapping[str, Any]) -> None:
    """Refuse a network of which some weights did not come out of the folder: transformers makes them up, and warns."""
    missing = sorted(str(key) for key in report["missing_keys"] if not str(key).endswith(UNUSED_WEIGHTS))
    mismatched = sorted(str(key[0] if isinstance(key, (tuple, list)) else key) for key in report["mismatched_keys"])
    for keys, what in ((missing, "are missing"), (mismatched, "have another shape")):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(
                f"{folder}: weights {what}, so this is no trained audio classifier: {', '.join(keys[:3])}{more}. Give "
                "the folder of one that was trained on emotions."
            )


@torch.no_grad()
def voice_scores(
    samples: np.ndarray, classifier: VoiceClassifier, *, residency: Residency = CPU, hooks: Hooks = SILENT
) -> np.ndarray:
    """Probabilities of the eight presets over time, from windows of 3 s, every half second.

    :func:`dicetalk.emotion.recognise.recogniser.blend` makes priors of them.

    Args:
        samples: mono at 16 kHz, float32 ``(n,)``.
        classifier: see :func:`load_voice_classifier`.
        residency: brings the network onto its device.
        hooks: hears the stage ``voice classes``, in windows.

    Returns:
        Float64 ``(T, 8)`` at the model's frames, in the order of :data:`~dicetalk.emotion.prior.PRESET_NAMES`.

    Raises:
        Cancelled: the caller asked to stop.
    """
    window, hop = round(WINDOW_SECONDS * SAMPLE_RATE), round(HOP_SECONDS * SAMPLE_RATE)
    starts = list(range(0, max(len(samples) - window, 0) + hop, hop))
    rows, middles = [], []
    with residency(classifier.network) as device:
        for done, start in enumerate(starts, start=1):
            hooks.check()
            part = samples[start : start + window]
            rows.append(_window_scores(part, classifier, device))
            middles.append((start + len(part) / 2) / SAMPLE_RATE)
            hooks.report("voice classes", done, len(starts))
    moments = np.arange(-(-len(samples) * MODEL_FPS // SAMPLE_RATE)) / MODEL_FPS
    columns = np.stack(rows, axis=1)
    return np.stack([np.interp(moments, middles, column) for column in columns], axis=1)


def _window_scores(part: np.ndarray, classifier: VoiceClassifier, device: torch.device) -> np.ndarray:
    """Probabilities of the eight presets in one window; what is none of them counts as neutral."""
    part = np.pad(part, (0, max(round(SHORTEST_SECONDS * SAMPLE_RATE) - len(part), 0)))
    rate = classifier.extractor.sampling_rate
    if rate != SAMPLE_RATE:
        part = soxr.resample(part, SAMPLE_RATE, rate)
    inputs = classifier.extractor(part, sampling_rate=rate, return_tensors="pt").to(device)
    probabilities = classifier.network(**inputs).logits[0].float().softmax(dim=0).tolist()
    scores = np.zeros(len(PRESET_NAMES))
    for name, probability in zip(classifier.classes, probabilities, strict=True):
        scores[PRESET_NAMES.index(name or "neutral")] += probability
    return scores


def _preset(label: str) -> str | None:
    lower = str(label).lower()
    name = LABELS.get(lower, ALIASES.get(lower, lower))
    return name if name in PRESET_NAMES else None
