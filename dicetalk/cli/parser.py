"""Every command and its options. Nothing here is slow to import, so that help comes at once."""

import argparse
from pathlib import Path

from dicetalk import __version__
from dicetalk.cli.emotion import add_emotion, add_intensity_from_voice
from dicetalk.cli.options import MODELS, add_models_option, add_options, add_sampler_options, add_speech_options
from dicetalk.settings import PortraitSettings, VideoSettings

DTYPES = ("fp16", "bf16", "fp32")
VARIANTS = ("full", "sonic")
SIZES = ("small", "middle", *VARIANTS)

_DESCRIPTION = """\
Turn one portrait, recorded speech and an emotion into a talking-head video (DICE-Talk).

  dicetalk doctor models                        what is there, what is missing
  dicetalk download models                      fetch what is missing
  dicetalk generate --image me.png --audio hello.wav --emotion happy --out hello.mp4

`python -m dicetalk` is the same program.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``options.command`` is the module of :mod:`dicetalk.cli` to run, and its function."""
    parser = argparse.ArgumentParser(
        prog="dicetalk", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_generate(commands)
    _add_models(commands)
    _add_bench(commands)
    _add_training(commands)
    _add_tiny(commands)
    add_emotion(commands)
    return parser


def _add_generate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "generate",
        help="make a video from a portrait, speech and an emotion",
        description="Make a talking-head video. Its length is the length of the speech.",
    )
    needed = parser.add_argument_group("needed")
    needed.add_argument(
        "--image",
        type=Path,
        help='portrait: any picture that Pillow or FFmpeg reads (HEIC with `pip install "dicetalk[heic]"`), from 64 px '
        "to 67 million in all; over 8K it is scaled down",
    )
    needed.add_argument("--audio", type=Path, help="speech: any sound or video file, 0.1 s to an hour")
    needed.add_argument(
        "--out",
        type=Path,
        help="video to write (.mp4 or .webm), or a new folder for PNG frames (no extension)",
    )

    several = parser.add_argument_group("several clips")
    several.add_argument(
        "--jobs",
        type=Path,
        metavar="TABLE",
        help="make several clips, the model loaded once: a CSV table whose columns are options (image, audio, "
        "out, emotion, ...), or a folder in which files of one name belong together (ann.wav, ann.png, ann.srt)",
    )
    several.add_argument("--again", action="store_true", help="with --jobs: make also the clips that are there already")

    emotion = parser.add_argument_group("emotion")
    either = emotion.add_mutually_exclusive_group()
    either.add_argument(
        "--emotion",
        help="happy:0.8, happy:0.5+sad:0.3, 'a little annoyed', a saved emotion (.safetensors), or what is said with "
        "emotions: '[happy] Good morning! [sad] It rains.' (default: neutral; Sonic has no emotions)",
    )
    either.add_argument(
        "--emotion-track",
        type=Path,
        help="file with an emotion that changes over the clip: .json, .safetensors, .npy, .srt or .vtt with emotions "
        "in brackets, or .txt likewise",
    )
    add_intensity_from_voice(emotion)

    model = parser.add_argument_group("model")
    add_models_option(model)
    model.add_argument(
        "--svd",
        type=Path,
        help="SVD-XT: a diffusers folder or svd_xt*.safetensors (default: found in the models folder)",
    )
    _add_device_options(model)

    portrait = parser.add_argument_group("portrait")
    where = portrait.add_mutually_exclusive_group()
    add_options(where, PortraitSettings, "face_index")
    where.add_argument("--box", type=_box, metavar="X,Y,W,H", help="face box in pixels instead of the detector")
    where.add_argument("--whole-picture", action="store_true", help="let the whole picture move, without a detector")
    portrait.add_argument("--crop", action="store_true", help="animate a square around the face only")
    portrait.add_argument("--paste-back", action="store_true", help="put the result back into the full picture")
    portrait.add_argument(
        "--feather",
        type=float,
        help="width of the soft edge of --paste-back, as a part of the crop's size (default: 1/16)",
    )
    portrait.add_argument(
        "--colour-match",
        action="store_true",
        help="correct slow colour drift against the portrait (always with --paste-back)",
    )
    add_options(portrait, PortraitSettings, "short_side", "mask_scale", "margin")

    add_speech_options(parser)
    add_sampler_options(parser)
    parser.add_argument_group("motion").add_argument(
        "--predict-motion",
        nargs="?",
        type=Path,
        const=True,
        default=False,
        metavar="FILE",
        help="let Sonic's network predict motion-bucket and expression-bucket from the speech, for a model that does "
        "not do so anyway: audio2bucket.pth or a folder with it (default: looked for in the models folder)",
    )

    video = parser.add_argument_group("video")
    video.add_argument("--no-interpolation", action="store_true", help="12.5 frames per second instead of 25")
    add_options(video, VideoSettings, "fps")
    video.add_argument(
        "--alpha",
        action="store_true",
        help="with --paste-back: transparent outside the animated part, soft at its edge; needs a .webm or a folder of "
        "PNG frames",
    )
    add_options(video, VideoSettings, "decode_chunk", "crf")
    video.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.set_defaults(
        command=("generate", "generate"), default_of=parser.get_default, parser=parser, check_usage=_need_a_clip
    )


def _need_a_clip(options: argparse.Namespace) -> None:
    missing = [f"--{name}" for name in ("image", "audio", "out") if getattr(options, name) is None]
    if missing and options.jobs is None:
        options.parser.error(f"the following arguments are required: {', '.join(missing)}")
    if options.again and options.jobs is None:
        options.parser.error("--again has no influence without --jobs")


def _add_models(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    doctor = commands.add_parser(
        "doctor",
        help="check the weights: every file, found, missing or damaged",
        description="Check the weights in a folder. "
        "Exit status 0 if everything needed is there and whole, 1 otherwise.",
    )
    doctor.add_argument("folder", type=Path, help="folder of the weights, or tiny, the bundled model")
    doctor.add_argument("--svd", type=Path, help="SVD-XT elsewhere: a diffusers folder or svd_xt*.safetensors")
    _add_variant(doctor)
    doctor.set_defaults(command=("models", "doctor"))

    download = commands.add_parser(
        "download",
        help="fetch the weights that are missing",
        description="Fetch what is missing from the Hugging Face hub. A broken download goes on where it stopped. "
        "The weights are CC BY-NC-SA 4.0 (DICE-Talk, Sonic) and under Stability AI's licence (SVD-XT).",
    )
    download.add_argument("folder", type=Path, help="folder of the weights")
    download.add_argument("--token", help="Hugging Face token, for SVD-XT, which asks to accept its licence first")
    _add_variant(download)
    download.set_defaults(command=("models", "download"))

    convert = commands.add_parser(
        "convert",
        help="pack a model's own files into one safetensors file",
        description="Pack a model's own networks into one safetensors file: of DICE-Talk unet.pth, audio_linear.pth, "
        "emo_model.pth and pose_guider.pth, of Sonic unet.pth, audio2token.pth and audio2bucket.pth.",
    )
    convert.add_argument("folder", type=Path, help="folder of the weights")
    convert.add_argument("out", type=Path, help="file to write, .safetensors")
    convert.add_argument("--dtype", default="fp16", choices=list(DTYPES), help="number format (default: fp16)")
    _add_variant(convert)
    convert.set_defaults(command=("models", "convert"))


def _add_variant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--variant",
        choices=VARIANTS,
        help="model that is meant: full, which is DICE-Talk, or sonic (default: the one that the folder holds, "
        "DICE-Talk if it holds both or none)",
    )


def _add_bench(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "bench",
        help="time every stage, or two settings side by side",
        description="Time every stage and its peak memory, with random weights of a named size or with a model. --set "
        "and --against take any sampler setting (steps, window, schedule, ...), preset, decode_chunk, and "
        "savings=on|off (off computes what the exact savings save).",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--size", choices=SIZES, default="small", help="model with random weights, and clip (default: small)"
    )
    what.add_argument(
        "--models", type=Path, help="instead: folder of the weights, or tiny, the bundled model, with its own settings"
    )
    parser.add_argument("--svd", type=Path, help="of --models: SVD-XT elsewhere")
    parser.add_argument(
        "--set", dest="base", action="append", default=[], metavar="NAME=VALUE", help="setting of the run"
    )
    parser.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="run a second setting in turn with the first and print the ratio of times",
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs that count (default: 5)")
    parser.add_argument("--flop", action="store_true", help="count FLOP by stage too, in one more run of each setting")
    parser.add_argument(
        "--growth",
        nargs="?",
        type=_lengths,
        const=[10.0, 60.0, 600.0],
        metavar="SECONDS,...",
        help="time for a second of video and peak memory at several lengths of speech instead (default: 10,60,600)",
    )
    parser.add_argument("--seconds", type=float, help="of speech (default: the size's own, 2 with --models)")
    parser.add_argument("--short-side", type=int, help="of the picture (default: the size's or the model's own)")
    parser.add_argument("--json", type=Path, help="file for the results")
    _add_device_options(parser.add_argument_group("model"))
    parser.set_defaults(command=("bench", "bench"), default_of=parser.get_default)


def _add_training(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    prepare = commands.add_parser(
        "prepare",
        help="make training shards out of a data set of videos, or of drawn faces",
        description="Cut faces, hear the speech and write shards for training. Videos that cannot be used are listed "
        "in skipped.csv. Run again, it goes on where it stopped; another data set may be added to the same folder.",
    )
    prepare.add_argument("dataset", help="folder of the data set; train or test with --kind procedural")
    prepare.add_argument("out", type=Path, help="folder of the shards")
    prepare.add_argument(
        "--kind",
        default="auto",
        choices=["auto", "mead", "ravdess", "cremad", "csv", "procedural"],
        help="layout of the data set: mead, ravdess, cremad, csv (a table of videos with their labels), procedural "
        "(drawn faces, of which DATASET names the split, train or test), or auto, by what is there (default: auto)",
    )
    prepare.add_argument(
        "--models",
        type=Path,
        default=MODELS,
        help="folder with whisper-tiny, or tiny, the bundled model, for its small speech encoder (default: models)",
    )
    prepare.add_argument(
        "--size", type=int, default=512, help="side of the frames, a multiple of 64 up to 1024 (default: 512)"
    )
    prepare.add_argument("--limit", type=int, help="number of videos; needed for --kind procedural")
    prepare.add_argument("--workers", type=int, default=1, help="videos worked on at the same time (default: 1)")
    prepare.add_argument("--seed", type=int, default=0, help="of the drawn faces (default: 0)")
    prepare.add_argument(
        "--landmarker",
        type=Path,
        help="face_landmarker.task: adds MediaPipe's expressions, without which clips are only heard",
    )
    prepare.add_argument("--device", default="auto", help="where Whisper runs (default: auto)")
    prepare.add_argument("--quiet", action="store_true", help="no progress bars")
    prepare.set_defaults(command=("prepare", "prepare"))

    train = commands.add_parser(
        "train",
        help="train the emotion embedder, the networks, or the small model that comes with the package",
        description="Train from shards. A run whose output folder holds checkpoints goes on from the newest one, "
        "with the config that it was begun with.",
    )
    train.add_argument(
        "what",
        choices=["embedder", "diffusion", "distill", "tiny"],
        help="what to train; distill makes a model of few steps out of another, tiny is all of the small model",
    )
    train.add_argument("--config", type=Path, required=True, help="YAML file with every setting")
    train.add_argument("--quiet", action="store_true", help="no progress bars")
    train.set_defaults(command=("train", "train"))


def _add_tiny(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    demo = commands.add_parser(
        "demo",
        help="eight small videos with the bundled model, portrait and speech",
        description="Make a video of each of the eight emotions, and one picture of all, with the small model, the "
        "portrait and the speech that come with the package.",
    )
    demo.add_argument(
        "--out", type=Path, default=Path("dicetalk-demo"), help="folder to write to (default: dicetalk-demo)"
    )
    _add_device_options(demo)
    demo.add_argument("--quiet", action="store_true", help="no progress bars")
    demo.set_defaults(command=("demo", "demo"))

    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model that was trained on drawn faces",
        description="Make clips of drawn people and sentences that no training has seen, and measure mouth, emotion, "
        "identity and seams in the pixels. Exit status 0 if every measure reaches its bar, 1 otherwise. Speech comes "
        "from espeak-ng.",
    )
    evaluate.add_argument("model", help="folder of the weights, or tiny, the bundled model")
    evaluate.add_argument(
        "--out",
        type=Path,
        default=Path("dicetalk-evaluation"),
        help="folder for the table, JSON, pictures and the trained judges, which a second evaluation uses again "
        "(default: dicetalk-evaluation)",
    )
    evaluate.add_argument(
        "--clips", type=int, help="clips of each emotion at full intensity (default: 3, and 1 with --quick)"
    )
    evaluate.add_argument(
        "--quick",
        action="store_true",
        help="one silent clip beside these, for a first look; with --against also a prior of a video for each",
    )
    evaluate.add_argument(
        "--against",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="another training to compare with, as in table 4: a model folder, or a file of the four networks alone",
    )
    evaluate.add_argument(
        "--frontier",
        action="store_true",
        help="instead: the same clips under several sampler settings, quality against passes of the network for a "
        "frame; --clips is then the number of clips in all (default: 9)",
    )
    _add_device_options(evaluate)
    evaluate.add_argument("--quiet", action="store_true", help="no progress bars")
    evaluate.set_defaults(command=("evaluate", "evaluate_model"), default_of=evaluate.get_default)


def _add_device_options(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda, cuda:1, mps, ... (default: auto, the first accelerator found)",
    )
    group.add_argument(
        "--dtype",
        default="auto",
        choices=["auto", *DTYPES],
        help="number format of the networks (default: auto, fp16 on an accelerator and fp32 on the CPU)",
    )


def _lengths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write lengths in seconds, for example 10,60.") from None


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x, y, width, height = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write four numbers, X,Y,WIDTH,HEIGHT.") from None
    return x, y, width, height
