"""``dicetalk emotion show``."""

import argparse
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dicetalk.audio.speech import SAMPLE_RATE
from dicetalk.cli.checks import refuse_idle
from dicetalk.cli.emotion_inputs import hearing, read_emotion_model, read_presets
from dicetalk.cli.model_folder import found_folder
from dicetalk.emotion.compare import FEELINGS, bank_attention, compare, entropy_bits, preset_weights
from dicetalk.emotion.parse import names_file, parse_emotion
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior
from dicetalk.emotion.show import check_plots, plot_bank_attention, plot_priors, plot_track
from dicetalk.emotion.show.bank import MAX_ROWS
from dicetalk.emotion.track import EmotionTrack
from dicetalk.files import explained, replacing
from dicetalk.progress import Bars

TOP_PROTOTYPES = 3
MAX_MOMENTS = 25
"""Rows of a track in the tables; its pictures have all."""

TABLE_NAME, PICTURE_NAME, FILE_NAME = 40, 24, 60
"""Longest names in tables, beside pictures and of files; a tagged text can have thousands of characters."""


def show(options: argparse.Namespace) -> int:
    """Print and draw the emotions of `options` among the eight presets."""
    if options.audio is None:
        refuse_idle(options, ["audio_stream"], "without --audio", "add that")
    if options.out is not None:
        check_plots()
    with Bars(quiet=True) as bars:  # for its notices
        folder = found_folder(options.models, bars.hooks)
        priors = read_presets(folder)
        listen, hear = hearing(options.audio, bars.hooks, options.audio_stream)
        tracks = {
            name: parse_emotion(text, priors, hear, bars.hooks)
            for name, text in zip(_names(options.emotions), options.emotions, strict=True)
        }
    rows, mu = _rows(tracks, priors)
    names = [_row_name(*row, TABLE_NAME) for row in rows]
    _print_cosines(names, mu, priors)
    _print_comparison(names, mu, priors)
    model = read_emotion_model(folder)
    attention = None if model is None else bank_attention(model, mu)
    if attention is not None:
        _print_attention(names, attention)
    if options.out is None:
        return 0
    pictures = {"map.png": plot_priors(tracks, priors)}
    if attention is not None:
        beside = [_row_name(*row, PICTURE_NAME) for row in rows]
        for start in range(0, len(beside), MAX_ROWS):
            page = slice(start, start + MAX_ROWS)
            pictures[_free("bank", pictures)] = plot_bank_attention(beside[page], attention[page])
    for name, track in tracks.items():
        if not track.is_constant:
            waveform = None if options.audio is None else (listen().samples, SAMPLE_RATE)
            title = _cut(name, 2 * FILE_NAME)
            pictures[_free(f"track-{_file_name(name)}", pictures)] = plot_track(track, priors, waveform, title=title)
    _save(options.out, pictures)
    return 0


def _names(texts: Sequence[str]) -> list[str]:
    """What to call emotions: a file without its folder where that tells it from others, otherwise what was given."""
    short = [Path(text).name if names_file(text) else text for text in texts]
    long = [text if short.count(name) > 1 else name for name, text in zip(short, texts, strict=True)]
    return [f"{name} ({long[: i + 1].count(name)})" if name in long[:i] else name for i, name in enumerate(long)]


def _cut(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _row_name(name: str, moment: str, length: int) -> str:
    """A name and, of a track, the moment, which is not cut off."""
    return f"{_cut(name, length - len(moment) - 1)} {moment}" if moment else _cut(name, length)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)[:FILE_NAME].strip("_")


def _free(stem: str, taken: Collection[str]) -> str:
    """`stem`, with a number if there is such a picture already."""
    names = (f"{stem}{number}.png" for number in itertools.chain([""], (f"-{n}" for n in itertools.count(2))))
    return next(name for name in names if name not in taken)


def _rows(
    tracks: Mapping[str, EmotionTrack], priors: Mapping[str, EmotionPrior]
) -> tuple[list[tuple[str, str]], torch.Tensor]:
    """The presets, then each emotion; of a track some moments, evenly spread. Rows have a name and a moment."""
    names, rows = [(name, "") for name in PRESET_NAMES], [torch.stack([priors[name].mu for name in PRESET_NAMES])]
    for name, track in tracks.items():
        if track.is_constant:
            moments = [0.0]
        else:
            moments = np.linspace(0, track.end, min(MAX_MOMENTS, max(3, round(2 * track.end)))).tolist()
        rows.append(track.at(moments).mu)
        names += [(name, "" if track.is_constant else f"{moment:.1f} s") for moment in moments]
    return names, torch.cat(rows)


def _print_cosines(names: Sequence[str], mu: torch.Tensor, priors: Mapping[str, EmotionPrior]) -> None:
    print("Cosines of the priors themselves to those of the presets:")
    _print_table(
        ["", *PRESET_NAMES],
        [
            [name, *(f"{value:.3f}" for value in row)]
            for name, row in zip(names, compare(mu, priors).cosines.tolist(), strict=True)
        ],
    )


def _print_comparison(names: Sequence[str], mu: torch.Tensor, priors: Mapping[str, EmotionPrior]) -> None:
    found = compare(mu, priors)
    weights = preset_weights(mu, priors)
    print("\nDistance to neutral, cosines of the differences to neutral, and the nearest mixture of presets:")
    _print_table(
        ["", "distance", *FEELINGS, "mixture"],
        [
            [name, f"{distance:.2f}", *(f"{value:.2f}" for value in row), _mixture(mixed)]
            for name, distance, row, mixed in zip(
                names, found.distances.tolist(), found.directions.tolist(), weights.tolist(), strict=True
            )
        ],
    )


def _mixture(weights: Sequence[float]) -> str:
    parts = [f"{name}:{weight:.2f}" for name, weight in zip(FEELINGS, weights, strict=True) if weight >= 0.05]
    return "+".join(parts) or "neutral"


def _print_attention(names: Sequence[str], attention: torch.Tensor) -> None:
    bank_size = attention.shape[1]
    print(
        f"\nAttention to the {bank_size} prototypes of the emotion bank (entropy at most {np.log2(bank_size):.2f} bit):"
    )
    shares, numbers = attention.topk(min(TOP_PROTOTYPES, bank_size), dim=1)
    _print_table(
        ["", "entropy", "most attended prototypes"],
        [
            [name, f"{bits:.2f}", ", ".join(f"{n} ({share:.1%})" for n, share in zip(top, part, strict=True))]
            for name, bits, top, part in zip(
                names, entropy_bits(attention).tolist(), numbers.tolist(), shares.tolist(), strict=True
            )
        ],
    )


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _save(folder: Path, pictures: Mapping[str, np.ndarray]) -> None:
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        with replacing(folder / name) as partial, explained(folder / name):
            Image.fromarray(picture).save(partial, "PNG")
        print(folder / name)
