"""The option `--models` of commands: the folder of the weights."""

import argparse
from pathlib import Path

MODELS = Path("models")
"""Where weights are looked for if nobody says."""


def add_models_option(parser: argparse._ActionsContainer) -> None:
    """Add ``--models``; what it leaves open :func:`dicetalk.cli.tiny.found_folder` decides."""
    parser.add_argument(
        "--models",
        type=Path,
        help=f"folder of the weights, or tiny, the bundled model (default: {MODELS} if it is there, else tiny)",
    )
