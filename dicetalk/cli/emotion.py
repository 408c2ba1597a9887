"""The options of ``dicetalk emotion``; nothing here is slow to import."""

import argparse
from pathlib import Path

from dicetalk.cli.emotion_extract import add_extract
from dicetalk.cli.options import add_audio_stream, add_models_option

_EMOTION_HELP = (
    "happy:0.5+sad:0.3, 'a little annoyed', '[happy] Good morning! [sad] It rains.', or a file: .safetensors, .npy, "
    ".json, .srt or .vtt with tags, .txt"
)


def add_emotion(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the group to the commands of ``dicetalk``."""
    parser = commands.add_parser(
        "emotion",
        help="make, mix and look at emotions",
        description="Make emotions and tracks out of clips, voices, texts and each other, save them to share, and look "
        "at them.",
    )
    inside = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_show(inside)
    add_mix(inside)
    add_voice(inside)
    add_text(inside)
    add_extract(inside)


def add_show(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``dicetalk emotion show``."""
    parser = commands.add_parser(
        "show",
        help="print and draw what emotions are",
        description="Print how near emotions are to the eight presets, how far from neutral, and which prototypes of "
        "the model's emotion bank they attend to. With --out draw them too, which needs matplotlib and scikit-learn.",
    )
    parser.add_argument("emotions", nargs="+", metavar="EMOTION", help=_EMOTION_HELP)
    parser.add_argument("--audio", type=Path, help="speech to draw below tracks, and to spread tagged texts over")
    add_audio_stream(parser)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="folder for the pictures")
    add_models_option(parser)
    parser.set_defaults(command=("emotion_show", "show"), default_of=parser.get_default)


def add_mix(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``dicetalk emotion mix``."""
    parser = commands.add_parser(
        "mix",
        help="mix emotions and change them over time",
        description="Add emotions up by weights, or go from one to another; then change the result in the order of the "
        "options here. One emotion alone is only read and saved: .npy, .json and subtitles become .safetensors.",
    )
    parser.add_argument(
        "emotions",
        nargs="+",
        metavar="EMOTION",
        help=f"{_EMOTION_HELP}; a weight, 0 to 2, may stand before it, as in 0.5*happy",
    )
    parser.add_argument(
        "--blend",
        type=_ends,
        metavar="N",
        help="instead of adding: from the first (0) to the second (1); one number, or FIRST:LAST over --seconds",
    )
    parser.add_argument(
        "--path",
        choices=["linear", "sphere", "neutral"],
        default="linear",
        help="way of --blend: straight, around neutral with the strength kept, or through neutral, one emotion after "
        "the other (default: linear)",
    )
    parser.add_argument("--sample", type=float, metavar="T", help="one sample, mu + T sigma eps, of a known spread")
    parser.add_argument("--seed", type=int, default=0, help="of --sample (default: 0)")
    parser.add_argument(
        "--drift", type=float, metavar="SECONDS", help="let the sample change slowly, with this time constant"
    )
    parser.add_argument("--audio", type=Path, help="speech for --intensity-from-voice and for tagged texts")
    add_audio_stream(parser)
    add_intensity_from_voice(parser)
    parser.add_argument("--intensity", type=_ends, metavar="N", help="factor; one number, or FIRST:LAST over --seconds")
    parser.add_argument("--smooth", type=float, metavar="SECONDS", help="blur over time, standard deviation")
    parser.add_argument(
        "--limit", type=float, metavar="N", help="largest distance to neutral, 1 being that of the farthest preset"
    )
    parser.add_argument("--fps", type=float, help="one keyframe for each moment, this many a second")
    parser.add_argument("--seconds", type=float, help="length of the clip (default: that of --audio)")
    _add_result(parser)
    parser.set_defaults(command=("emotion_make", "make_mix"), default_of=parser.get_default)


def add_voice(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``dicetalk emotion voice``."""
    parser = commands.add_parser(
        "voice",
        help="take the intensity, or the emotion, of a voice",
        description="Make an emotion as strong over time as the voice is: loud, high, lively, bright and fast against "
        "how the speaker speaks otherwise. Or, with --classifier, hear which emotion it is.",
    )
    parser.add_argument("audio", type=Path, help="speech: any sound or video file")
    add_audio_stream(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--emotion", help=f"the emotion that gets the voice's intensity: {_EMOTION_HELP}")
    which.add_argument(
        "--classifier", type=Path, metavar="FOLDER", help="transformers audio classifier of emotions, in safetensors"
    )
    parser.add_argument(
        "--speaker",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="ordinary speech of the same speaker to compare with; may be repeated (default: the speech itself)",
    )
    parser.add_argument(
        "--direction",
        choices=["louder", "softer", "either"],
        default="louder",
        help="what counts as more intense; softer suits sadness (default: louder)",
    )
    parser.add_argument("--silence", type=float, default=0.25, help="intensity in silence (default: 0.25)")
    parser.add_argument("--ordinary", type=float, default=0.8, help="of the speaker's ordinary voice (default: 0.8)")
    parser.add_argument("--highest", type=float, default=1.4, help="of the most intense voice (default: 1.4)")
    parser.add_argument("--smoothing", type=float, default=0.2, metavar="SECONDS", help="blur over time (default: 0.2)")
    parser.add_argument("--strength", type=float, default=1.0, help="factor on what --classifier hears (default: 1)")
    parser.add_argument("--device", default="auto", help="where --classifier runs (default: auto)")
    _add_result(parser)
    parser.set_defaults(command=("emotion_make", "make_voice"), default_of=parser.get_default)


def add_text(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """``dicetalk emotion text``."""
    parser = commands.add_parser(
        "text",
        help="make a track out of a text with tags, or subtitles",
        description="Make a track out of '[happy 0.8] Good morning! [a little sad] It rains.' The times come from .srt "
        "or .vtt, or the text is spread over the speech.",
    )
    parser.add_argument("text", help="the text, or a file: .srt, .vtt or .txt")
    parser.add_argument("--audio", type=Path, help="speech that says the text; subtitles need none")
    add_audio_stream(parser)
    _add_result(parser)
    parser.set_defaults(command=("emotion_make", "make_text"), default_of=parser.get_default)


def add_intensity_from_voice(parser: argparse._ActionsContainer) -> None:
    """The option that makes an emotion follow the voice."""
    parser.add_argument(
        "--intensity-from-voice",
        nargs="?",
        const="louder",
        choices=["louder", "softer", "either"],
        help="make the emotion as strong as the voice; what counts is being louder, softer or either (default: louder)",
    )


def _add_result(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, type=Path, help="file to write, .safetensors")
    parser.add_argument("--source", default="", help="where the emotion comes from, kept in the file")
    parser.add_argument("--licence", default="", help="what others may do with it, kept in the file")
    add_models_option(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _ends(text: str) -> tuple[float, float]:
    """One number, or two."""
    first, colon, last = text.partition(":")
    try:
        return float(first), float(last if colon else first)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number, or FIRST:LAST.") from None
