"""Options about the speech; nothing here is slow to import."""

import argparse


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
    speech.add_argument("--start", type=float, default=0.0, help="seconds into the sound (default: 0)")
    speech.add_argument("--duration", type=float, help="seconds to use (default: to the end)")
    add_audio_stream(speech)
    speech.add_argument(
        "--pad-start",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="silence before the speech, up to 60; times of emotions count from the video's beginning (default: 0)",
    )
    speech.add_argument(
        "--pad-end", type=float, default=0.0, metavar="SECONDS", help="silence after the speech, up to 60 (default: 0)"
    )
    speech.add_argument(
        "--silence-below",
        type=float,
        metavar="DB",
        help="let the network hear digital silence, which keeps the mouth shut, where the sound is fainter than this "
        "level, for example -45; the video's sound stays (default: off)",
    )
