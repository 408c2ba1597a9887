"""``dicetalk doctor``, ``download`` and ``convert``."""

import argparse

from dicetalk.checkpoints.convert import convert_model
from dicetalk.checkpoints.doctor import format_report, inspect_model
from dicetalk.checkpoints.download import download_model
from dicetalk.checkpoints.variants import VARIANTS, Variant
from dicetalk.progress import Bars
from dicetalk.residency import DTYPES


def doctor(options: argparse.Namespace) -> int:
    """Print what was found of a model; 1 if a file is missing or damaged."""
    report = inspect_model(options.folder, svd=options.svd, variant=_variant(options))
    print(format_report(report))
    return 0 if report.complete else 1


def download(options: argparse.Namespace) -> int:
    """Fetch the files of a model into ``options.folder``, then check them."""
    with Bars() as bars:
        download_model(options.folder, hooks=bars.hooks, token=options.token, variant=_variant(options))
    return doctor(argparse.Namespace(folder=options.folder, svd=None, variant=options.variant))


def convert(options: argparse.Namespace) -> int:
    """Write the networks of a model as one safetensors file, ``options.out``."""
    with Bars() as bars:
        convert_model(
            options.folder, options.out, dtype=DTYPES[options.dtype], hooks=bars.hooks, variant=_variant(options)
        )
    print(options.out)
    return 0


def _variant(options: argparse.Namespace) -> Variant | None:
    return None if options.variant is None else VARIANTS[options.variant]
