"""The command line: ``python -m dicetalk COMMAND``."""

import importlib
import logging
import sys
from collections.abc import Sequence

from dicetalk.cli.checks import check_paths, refuse_inputs_as_outputs
from dicetalk.cli.parser import build_parser
from dicetalk.errors import Cancelled, DiceTalkError

_LESS_MEMORY = {
    "generate": "Choose a smaller --short-side, --dtype fp16, or --device cpu.",
    "bench": "Choose a smaller --short-side, --dtype fp16, or --device cpu.",
    "train": "In the config choose a smaller batch_size or window, precision: bf16, gradient_checkpointing: true or "
    "trained: adapters.",
    "prepare": "Choose a smaller --size, or fewer --workers.",
    "evaluate": "Choose --dtype fp16, or --device cpu.",
    "demo": "Choose --dtype fp16, or --device cpu.",
    "extract": "Choose a shorter clip, or --device cpu.",
    "emotion_make": "Choose shorter speech, or --device cpu for `emotion voice`.",
}
"""The way on, by the module of the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        Exit status: 0 done or help shown, 1 an error that was explained (or `doctor` found something wrong), 2 wrong
        usage, 130 stopped by Ctrl-C.
    """
    logging.basicConfig(format="note: %(message)s", level=logging.WARNING)
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    module, command = options.command
    if hasattr(options, "check_usage"):
        options.check_usage(options)
    try:
        check_paths(options)
        refuse_inputs_as_outputs(options)
        return getattr(importlib.import_module(f"dicetalk.cli.{module}"), command)(options)
    except DiceTalkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (RuntimeError, MemoryError) as error:
        from dicetalk.memory import is_out_of_memory  # imports torch, which has been imported by now

        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition(chr(10))[0]
        less = _LESS_MEMORY.get(module, "Close other programs.")
        print(f"error: there is not enough memory ({reason}). {less}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Cancelled):
        print("stopped; nothing half-written is left behind.", file=sys.stderr)
        return 130
