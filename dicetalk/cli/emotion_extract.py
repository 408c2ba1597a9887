"""The options of ``dicetalk emotion extract``; nothing here is slow to import."""

import argparse
from pathlib import Path

from dicetalk.cli.options import add_audio_stream, add_models_option
from dicetalk.settings import EMBEDDED_SECONDS

SMOOTHING_SECONDS = 0.2
"""Of a track, unless something else is asked for."""


def add_extract(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of ``dicetalk emotion``."""
    parser = commands.add_parser(
        "extract",
        help="take the emotion of a video, a voice or a picture",
        description="Take an emotion from a reference. A recogniser of faces mixes the model's eight emotions by what "
        "it sees; a model with an embedder reads the emotion itself, from the face, the voice or both.",
    )
    parser.add_argument("clip", type=Path, help="reference: a video, a sound or a picture with one face from the front")
    parser.add_argument("--out", required=True, type=Path, help="file to write, .safetensors")
    parser.add_argument(
        "--track",
        action="store_true",
        help="follow the emotion over time (default: one emotion for the whole clip, with its spread)",
    )
    parser.add_argument(
        "--smoothing",
        type=float,
        default=SMOOTHING_SECONDS,
        metavar="SECONDS",
        help=f"blur of a track over time (default: {SMOOTHING_SECONDS:g})",
    )
    add_audio_stream(parser)
    add_models_option(parser)
    parser.add_argument(
        "--by",
        choices=["auto", "recogniser", "embedder"],
        default="auto",
        help="the way (default: auto, the embedder where the model has one)",
    )

    seen = parser.add_argument_group("by recogniser")
    seen.add_argument(
        "--recogniser",
        type=Path,
        metavar="FILE",
        help="classifier of faces, .onnx, with a .json beside it that describes it; EmotiEffLib's need none "
        "(default: the small one of the package, which does not know contempt)",
    )
    seen.add_argument("--strength", type=float, default=1.0, help="factor on what is seen, 0 to 2 (default: 1)")

    embedded = parser.add_argument_group("by embedder")
    embedded.add_argument(
        "--modality",
        choices=["auto", "video", "audio", "both"],
        default="auto",
        help="what is embedded (default: auto, what the clip has)",
    )
    embedded.add_argument(
        "--window",
        type=float,
        default=EMBEDDED_SECONDS,
        metavar="SECONDS",
        help=f"of a track, 0.5 to 6 (default: {EMBEDDED_SECONDS:g})",
    )
    embedded.add_argument(
        "--landmarker",
        type=Path,
        metavar="FILE",
        help="face_landmarker.task, for embedders that were trained on MediaPipe's blendshapes",
    )

    parser.add_argument("--source", default="", help="where the emotion comes from, kept in the file")
    parser.add_argument("--licence", default="", help="what others may do with it, kept in the file")
    parser.add_argument("--device", default="auto", help="where the embedder and Whisper run (default: auto)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(command=("extract", "extract"), default_of=parser.get_default)
