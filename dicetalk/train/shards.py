"""Training data on disk: safetensors files that hold some clips each, and can be read frame by frame.

A clip's tensors are called ``<clip>/<name>``, see :data:`dicetalk.train.clip_record.TENSORS`; labels stand in the
file's metadata. The list of a folder's clips is made from the files' headers: there is no index that could disagree.
"""

import hashlib
import json
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dicetalk.audio.features import STEPS_PER_FRAME, WINDOW
from dicetalk.errors import OutputError, SettingError
from dicetalk.files import explained, replacing
from dicetalk.hooks import SILENT, Hooks
from dicetalk.paths import checked_path
from dicetalk.settings import FPS
from dicetalk.train.clip_record import SPLITS, TENSORS, ClipLabels, ClipRecord, DatasetError, check_clip
from dicetalk.unfinished import sweep

FORMAT = "dicetalk.clips"
FORMAT_VERSION = "1"
CLIPS_PER_SHARD = 32
MAX_HEADER_BYTES = 1 << 22
_SHARD = re.compile(r"shard-(\d{5,9})\.safetensors")
_PENDING = "pending"


def list_clips(folder: Path | str, *, hooks: Hooks = SILENT) -> list[ClipRecord]:
    """Every clip of a folder of shards; only headers are read.

    A damaged shard is left out with a notice that names it and what is wrong, as is the second clip of one name.

    Raises:
        DatasetError: the folder is missing or holds no clip.
    """
    folder = checked_path(folder, DatasetError)
    records = _list(_shards(folder), hooks)
    if not records:
        raise DatasetError(f"{folder} holds no training clips. Make some: `dicetalk prepare DATASET {folder}`.")
    return records


def list_prepared(folder: Path | str) -> list[ClipRecord]:
    """Every clip that a :class:`ShardWriter` would find in a folder, which may be missing; without notices."""
    folder = checked_path(folder, DatasetError)
    if not folder.is_dir():
        return []
    pending = sorted((folder / _PENDING).glob("[0-9]*.safetensors"))
    return _list([*_shards(folder), *pending], Hooks(notice=lambda _: None))


def splits(records: Iterable[ClipRecord]) -> dict[str, list[ClipRecord]]:
    """The clips of each split, in their order; a split without clips has an empty list."""
    parts: dict[str, list[ClipRecord]] = {split: [] for split in SPLITS}
    for record in records:
        parts[record.labels.split].append(record)
    return parts


def read_clip(
    record: ClipRecord, names: Sequence[str] | None = None, *, start: int = 0, stop: int | None = None
) -> dict[str, Tensor]:
    """Read a clip's tensors in their stored dtypes, or the part of them that belongs to some frames.

    Only that part is read from disk. Of `whisper` it is what :func:`dicetalk.audio.features.frame_windows` cuts into
    one window for each frame, ``4 * (stop - start - 1) + 10`` steps; without `stop`, all steps to the clip's end, which
    are a few more. `box` and `portrait` are always whole.

    Args:
        record: of :func:`list_clips`.
        names: which tensors; all that the clip has if none.
        start: first frame.
        stop: frame behind the last; the clip's end if none.

    Raises:
        SettingError: the frames are not in the clip.
        DatasetError: the clip has no such tensor, it holds values that are not finite, or the shard has changed or is
            gone.
    """
    to_end, stop = stop is None, record.frames if stop is None else stop
    if not 0 <= start < stop <= record.frames:
        raise SettingError(f"Frames {start} to {stop} are not in clip {record.id}, which has {record.frames} frames.")
    names = tuple(record.shapes) if names is None else names
    for name in names:
        if name not in record.shapes:
            raise DatasetError(f"Clip {record.id} in {record.path} has no {name}, only {', '.join(record.shapes)}.")
    parts = {
        "frames": slice(start, stop),
        "steps": slice(STEPS_PER_FRAME * start, None if to_end else STEPS_PER_FRAME * (stop - 1) + WINDOW),
        "4": slice(None),
        "height": slice(None),
    }
    try:
        with safe_open(record.path, framework="pt") as file:
            slices = {name: file.get_slice(f"{record.id}/{name}") for name in names}
            for name, view in slices.items():
                if tuple(view.get_shape()) != record.shapes[name]:
                    raise DatasetError(f"{record.path} has changed since its clips were listed. List them again.")
            read = {name: view[parts[TENSORS[name].axes[0]]] for name, view in slices.items()}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise DatasetError(
            f"Clip {record.id} cannot be read from {record.path} ({error}). List the folder's clips again."
        ) from error
    for name, tensor in read.items():
        if not _finite(tensor):
            raise DatasetError(
                f"{name} of clip {record.id} in {record.path} holds NaN or infinite values. Remove that file and run "
                "`dicetalk prepare` again, which makes its clips anew."
            )
    return read


def picture_digest(record: ClipRecord) -> str:
    """A short name of a clip's pictures: of their shape, and of three rows of some frames and of the portrait.

    Telling clips apart that were prepared differently needs no more, and all pictures of a data set take hours to read.

    Raises:
        DatasetError: the shard has changed or is gone.
    """
    frames, height, width, _ = record.shapes["frames"]
    digest = hashlib.sha256(repr((frames, height, width)).encode())
    rows_seen = (height // 4, height // 2, 3 * height // 4)
    try:
        with safe_open(record.path, framework="pt") as file:
            views = [(file.get_slice(f"{record.id}/frames"), place) for place in (0, frames // 2, frames - 1)]
            rows = [view[place : place + 1, y : y + 1] for view, place in views for y in rows_seen]
            if "portrait" in record.shapes:
                portrait = file.get_slice(f"{record.id}/portrait")
                rows += [portrait[y : y + 1] for y in rows_seen]
    except (SafetensorError, OSError, RuntimeError) as error:
        raise DatasetError(
            f"Clip {record.id} cannot be read from {record.path} ({error}). List the folder's clips again."
        ) from error
    for row in rows:
        digest.update(row.contiguous().numpy().data)
    return digest.hexdigest()[:16]


class ShardWriter:
    """Adds clips to a folder of shards. Use as a context manager; :meth:`add` may be called from several threads.

    Each clip is first written to a file of its own. When there are `clips_per_shard` of these they become a shard, and
    the rest do when the block ends without an error. So a program that is killed at any moment loses no finished clip,
    the next writer goes on where it stopped, and memory holds one clip.

    Args:
        folder: is made if it does not exist; its clips stay, and new shards' numbers follow theirs.
        clips_per_shard: clips in a file.
        hooks: receives a notice for each damaged shard that is there; its clips count as missing.

    Raises:
        SettingError: `clips_per_shard` is not positive.
        OutputError: the folder cannot be written.
    """

    def __init__(self, folder: Path | str, clips_per_shard: int = CLIPS_PER_SHARD, *, hooks: Hooks = SILENT):
        if clips_per_shard < 1:
            raise SettingError(f"clips_per_shard is {clips_per_shard}: give 1 or more; {CLIPS_PER_SHARD} is usual.")
        self.folder = checked_path(folder, OutputError)
        self.clips_per_shard = clips_per_shard
        self._lock = threading.Lock()
        with explained(self.folder):
            (self.folder / _PENDING).mkdir(parents=True, exist_ok=True)
            for place in (self.folder, self.folder / _PENDING):
                sweep(place)
            shards = _shards(self.folder)
            self._next_shard = 1 + max((number for path in shards if (number := _number(path)) is not None), default=-1)
            self._ids = {record.id for record in _list(shards, hooks)}
            self._pending: list[ClipRecord] = []
            self._next_pending = 0
            for path in sorted((self.folder / _PENDING).glob("[0-9]*.safetensors")):
                self._take_over(path, hooks)

    @property
    def ids(self) -> frozenset[str]:
        """Names of the clips that are there."""
        with self._lock:
            return frozenset(self._ids)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._lock:
                self._pack()
                shutil.rmtree(self.folder / _PENDING, ignore_errors=True)

    def add(self, clip: str, labels: ClipLabels, tensors: Mapping[str, Tensor]) -> None:
        """Write one clip.

        Args:
            clip: its name: letters, digits and ``_.+-``.
            labels: what is known about it.
            tensors: on the CPU, by their names and with the dtypes and shapes of :data:`TENSORS`.

        Raises:
            DatasetError: the name is taken or not allowed, or a tensor is missing, of another dtype or shape, or holds
                values that are not finite.
            OutputError: the disk is full, or the folder cannot be written.
        """
        for name, tensor in tensors.items():
            if name in TENSORS and tensor.dtype != TENSORS[name].dtype:
                raise DatasetError(f"{name} of clip {clip} is {tensor.dtype}, not {TENSORS[name].dtype}.")
            if not _finite(tensor):
                raise DatasetError(f"{name} of clip {clip} holds NaN or infinite values.")
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        with self._lock:
            if clip in self._ids:
                raise DatasetError(f"Clip {clip} is in {self.folder} already. Give each clip a name of its own.")
            self._ids.add(clip)
            path = self.folder / _PENDING / f"{self._next_pending:09}.safetensors"
            self._next_pending += 1
        record = ClipRecord(clip, labels, path, shapes)
        try:
            check_clip(record)
            _write(path, [record], lambda _, name: tensors[name])
        except BaseException:
            with self._lock:
                self._ids.discard(clip)
            raise
        with self._lock:
            self._pending.append(record)
            if len(self._pending) >= self.clips_per_shard:
                self._pack()

    def _take_over(self, path: Path, hooks: Hooks) -> None:
        """Count a clip that an earlier writer left; one that it had packed already is removed."""
        self._next_pending = int(path.stem) + 1
        try:
            (record,) = _read_header(path)
        except ValueError as error:
            hooks.notice(f"{path} was left by an earlier run and is damaged ({error}); its clip is made again.")
            path.unlink()
            return
        if record.id in self._ids:
            path.unlink()
            return
        self._ids.add(record.id)
        self._pending.append(record)

    def _pack(self) -> None:
        while self._pending:
            some = self._pending[: self.clips_per_shard]
            path = self.folder / f"shard-{self._next_shard:05}.safetensors"
            _write(path, some, lambda record, name: read_clip(record, [name])[name])
            self._next_shard += 1
            del self._pending[: len(some)]
            with explained(path):
                for record in some:
                    record.path.unlink()


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _shards(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder. Make it and its clips: `dicetalk prepare DATASET {folder}`.")
    numbers = {path: _number(path) for path in folder.iterdir()}
    return [path for _, path in sorted((number, path) for path, number in numbers.items() if number is not None)]


def _number(path: Path) -> int | None:
    """Number in the name of a shard, `None` for another file."""
    found = _SHARD.fullmatch(path.name)
    return None if found is None else int(found[1])


def _list(paths: Iterable[Path], hooks: Hooks) -> list[ClipRecord]:
    records: dict[str, ClipRecord] = {}
    for path in paths:
        hooks.check()
        try:
            found = _read_header(path)
        except ValueError as error:
            hooks.notice(f"Shard {path} is left out: {error}.")
            continue
        for record in found:
            if record.id in records:
                hooks.notice(f"Clip {record.id} in {path} is left out: {records[record.id].path} has one of that name.")
            records.setdefault(record.id, record)
    return list(records.values())


def _read_header(path: Path) -> list[ClipRecord]:
    """The clips of a shard, of which nothing is believed; ValueError says what is wrong with it."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(
                f"its header of {length} bytes is longer than {MAX_HEADER_BYTES}, or it is no safetensors file"
            )
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            views = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            shapes = {key: (view.get_dtype(), tuple(view.get_shape())) for key, view in views.items()}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"it is cut off, damaged or no safetensors file ({error})") from error
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, FORMAT_VERSION):
        raise ValueError(f"its metadata does not say {FORMAT} version {FORMAT_VERSION}")
    try:
        entries = json.loads(metadata["clips"])
        records = [_record(path, clip, entry, shapes) for clip, entry in entries.items()]
    except (LookupError, TypeError, AttributeError, RecursionError, json.JSONDecodeError, DatasetError) as error:
        raise ValueError(f"its labels are damaged ({type(error).__name__}: {error})") from error
    if sum(len(record.shapes) for record in records) != len(shapes):
        raise ValueError("it holds tensors that belong to no clip")
    return records


def _record(
    path: Path, clip: str, entry: dict[str, Any], shapes: Mapping[str, tuple[str, tuple[int, ...]]]
) -> ClipRecord:
    entry = dict(entry)
    frames, fps = entry.pop("frames"), entry.pop("fps")
    mine = {name: shapes[f"{clip}/{name}"] for name in TENSORS if f"{clip}/{name}" in shapes}
    for name, (code, _) in mine.items():
        if code != TENSORS[name].code:
            raise DatasetError(f"{name} of clip {clip} is {code}, not {TENSORS[name].code}")
    record = ClipRecord(clip, ClipLabels(**entry), path, {name: shape for name, (_, shape) in mine.items()})
    check_clip(record)
    if (frames, fps) != (record.frames, FPS):
        raise DatasetError(f"clip {clip} is said to have {frames} frames at {fps} fps, not {record.frames} at {FPS}")
    return record


def _write(path: Path, records: Sequence[ClipRecord], tensor: Callable[[ClipRecord, str], Tensor]) -> None:
    """Write a shard tensor by tensor; ``tensor(record, name)`` gives each once."""
    order = [(record, name) for name in TENSORS for record in records if name in record.shapes]
    labels = {r.id: {**asdict(r.labels), "fps": FPS, "frames": r.frames} for r in records}
    header: dict[str, Any] = {
        "__metadata__": {"format": FORMAT, "version": FORMAT_VERSION, "clips": json.dumps(labels)}
    }
    end = 0
    for record, name in order:
        kind, shape = TENSORS[name], record.shapes[name]
        begin, end = end, end + math.prod(shape) * kind.dtype.itemsize
        header[f"{record.id}/{name}"] = {"dtype": kind.code, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as partial, explained(path), partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for record, name in order:
            file.write(tensor(record, name).contiguous().flatten().view(torch.uint8).numpy().data)
