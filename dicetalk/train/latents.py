"""Latents of every clip, encoded once: reading them costs a fiftieth of reading frames, and of encoding nothing."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dicetalk.files import explained, replacing
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.clip_record import ClipRecord, DatasetError
from dicetalk.train.shards import picture_digest, read_clip

if TYPE_CHECKING:  # diffusers takes seconds to import, and nothing here needs more than the name
    from diffusers import AutoencoderKLTemporalDecoder

CHUNK = 8
"""Frames that are encoded together."""


@dataclass(frozen=True)
class LatentStore:
    """One file for each clip.

    It holds ``latents``, the VAE's unscaled modes, float16 ``(frames, 4, h, w)``, and ``portrait`` ``(4, h, w)`` if the
    clip has one.

    Args:
        folder: of the files.
        vae: fingerprint of the encoder's weights; files of another one, and of clips whose pictures have changed, are
            made again.
    """

    folder: Path
    vae: str

    def path(self, record: ClipRecord) -> Path:
        """The clip's file."""
        return self.folder / f"{record.id}.safetensors"

    def holds(self, record: ClipRecord) -> bool:
        """Whether the clip's file is there, whole, of this VAE and of the pictures that the clip has now."""
        try:
            with safe_open(self.path(record), framework="pt") as file:
                return (
                    (file.metadata() or {}) == self._metadata(record)
                    and file.get_slice("latents").get_shape()[0] == record.frames
                    and ("portrait" in file.keys()) == ("portrait" in record.shapes)  # noqa: SIM118
                )
        except (SafetensorError, OSError, RuntimeError, DatasetError):
            return False

    def write(self, record: ClipRecord, latents: dict[str, torch.Tensor]) -> None:
        """Write the clip's file.

        Raises:
            DatasetError: the clip cannot be read any more, or the latents hold values that are not finite.
            OutputError: the disk is full, or the folder cannot be written.
        """
        path = self.path(record)
        if not all(tensor.isfinite().all() for tensor in latents.values()):
            raise DatasetError("its latents are NaN or infinite in float16; is the VAE in `models` whole?")
        metadata = self._metadata(record)
        content = save(latents, metadata)  # its own writing of files has an error of its own for a full disk
        with replacing(path) as partial, explained(path):
            partial.write_bytes(content)

    def _metadata(self, record: ClipRecord) -> dict[str, str]:
        # One entry: the order of several is not always the same, and equal clips shall give equal files.
        return {"of": f"VAE {self.vae}, pictures {picture_digest(record)}"}

    def read(self, record: ClipRecord, start: int, stop: int) -> torch.Tensor:
        """Latents of some frames, float32 ``(stop - start, 4, h, w)``.

        Raises:
            DatasetError: the file is gone or damaged, or holds values that are not finite.
        """
        return self._read(record, lambda file: file.get_slice("latents")[start:stop])

    def read_portrait(self, record: ClipRecord) -> torch.Tensor:
        """Latents of the clip's portrait, float32 ``(4, h, w)``.

        Raises:
            DatasetError: the file is gone or damaged, has none, or holds values that are not finite.
        """
        return self._read(record, lambda file: file.get_tensor("portrait"))

    def _read(self, record: ClipRecord, read: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        try:
            with safe_open(self.path(record), framework="pt") as file:
                latents = read(file).float()
        except (SafetensorError, OSError, RuntimeError) as error:
            raise DatasetError(f"{self.path(record)} cannot be read ({error}). Start the training again.") from error
        if not latents.isfinite().all():
            raise DatasetError(
                f"{self.path(record)}, the latents of clip {record.id}, holds NaN or infinite values. Remove that file "
                "and start the training again, which makes it anew."
            )
        return latents


def fingerprint(tensors: Iterable[torch.Tensor]) -> str:
    """A short name of some numbers."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()[:16]


def encoder_fingerprint(vae: "AutoencoderKLTemporalDecoder") -> str:
    """A short name of the encoder's weights."""
    return fingerprint(t for part in (vae.encoder, vae.quant_conv) for t in part.state_dict().values())


@torch.no_grad()
def encode_clips(
    store: LatentStore,
    vae: "AutoencoderKLTemporalDecoder",
    records: Sequence[ClipRecord],
    device: torch.device,
    hooks: Hooks = SILENT,
) -> None:
    """Encode every clip whose latents are not there; clips that cannot be read are left out with a notice.

    The encoder overflows in half precision; `vae` must be in float32 and on `device`.

    Args:
        store: where to.
        vae: only its encoder is run.
        records: the clips.
        device: where `vae` is.
        hooks: progress of `encode` in clips.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with explained(store.folder):
        store.folder.mkdir(parents=True, exist_ok=True)
    for done, record in enumerate(records, start=1):
        hooks.check()
        if not store.holds(record):
            try:
                store.write(record, _encode(vae, record, device))
            except DatasetError as error:
                hooks.notice(f"Clip {record.id} is left out: {error}")
                continue
        hooks.report("encode", done, len(records))


def _encode(vae: "AutoencoderKLTemporalDecoder", record: ClipRecord, device: torch.device) -> dict[str, torch.Tensor]:
    def encode(frames: torch.Tensor) -> torch.Tensor:
        images = frames.to(device).permute(0, 3, 1, 2).float() / 255 * 2 - 1
        return vae.encode(images).latent_dist.mode().half().cpu()

    chunks = []
    for start in range(0, record.frames, CHUNK):
        stop = min(start + CHUNK, record.frames)
        chunks.append(encode(read_clip(record, ["frames"], start=start, stop=stop)["frames"]))
    latents = {"latents": torch.cat(chunks).contiguous()}
    if "portrait" in record.shapes:
        latents["portrait"] = encode(read_clip(record, ["portrait"])["portrait"][None])[0].contiguous()
    return latents
