"""Progress bars on a terminal."""

import sys
from types import TracebackType

import torch
from tqdm import tqdm

from dicetalk.hooks import Hooks

_TITLES = {
    "load": "Loading networks",
    "speech": "Reading speech",
    "portrait": "Encoding portrait",
    "sample": "Denoising windows",
    "decode": "Decoding frames",
    "interpolate": "Interpolating frames",
    "write": "Writing frames",
    "convert": "Writing tensors",
    "download": "Fetching MB",
    "prepare": "Preparing clips",
    "train": "Training steps",
    "encode": "Encoding clips",
    "draw": "Drawing faces",
    "judges": "Training judges",
    "clips": "Making clips",
    "priors": "Embedding clips",
    "demo": "Making videos",
    "voice": "Measuring voice",
    "voice classes": "Hearing emotions",
}
_FORMAT = "{desc} {percentage:3.0f}% {bar} {n_fmt}/{total_fmt} [{elapsed}, {remaining} left]"


class Bars:
    """One bar for each stage that reports, on standard error; notices are printed between them.

    Stages that stream run interleaved (frames are decoded, interpolated and written chunk by chunk), so several bars
    can be open. Use as a context manager; ``bars.hooks`` goes to the library.
    """

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.bars: dict[str, tqdm] = {}
        self.hooks = Hooks(progress=self._report, notice=self._notice)

    def __enter__(self) -> "Bars":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self.bars.values():
            bar.close()

    def _report(self, stage: str, done: int, total: int, preview: torch.Tensor | None = None) -> None:
        if self.quiet:
            return
        if stage not in self.bars:
            title = f"{_TITLES.get(stage, stage):<20}"
            self.bars[stage] = tqdm(
                total=total, desc=title, position=len(self.bars), bar_format=_FORMAT, file=sys.stderr
            )
        bar = self.bars[stage]
        bar.update(done - bar.n)
        if done >= total:
            self.bars.pop(stage).close()

    def _notice(self, text: str) -> None:
        tqdm.write(f"note: {text}", file=sys.stderr)
