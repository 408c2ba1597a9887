"""Options about the speech; nothing here is slow to import."""

import argparse

from dicetalk.cli.sampler_options import add_options
from dicetalk.settings import SpeechSettings


def add_audio_stream(parser: argparse._ActionsContainer) -> None:
    """``--audio-stream``, of every command that reads sound."""
    parser.add_argument(
        "--audio-stream",
        type=int,
        metavar="N",
        help="sound stream of a file that has several, 1 is the first (default: the one marked as default, or the "
        "first that is not silent)",
    )


def add_speech_options(parser: argparse.ArgumentParser) -> None:
    """The group of options about the speech of ``dicetalk generate``."""
    speech = parser.add_argument_group("speech")
    add_options(speech, SpeechSettings, "start", "duration")
    add_audio_stream(speech)
    add_options(speech, SpeechSettings, "pad_start", "pad_end", "silence_below")
