"""Which model a prior belongs to: 256 numbers mean something only to the network that was trained with them."""

import hashlib
from collections.abc import Mapping

from dicetalk.emotion.mix import find_prior
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior


def space_of(priors: Mapping[str, EmotionPrior]) -> str:
    """The hash of a model's prior space: SHA-256 of its eight presets' means, little-endian float32, in the order of
    :data:`~dicetalk.emotion.prior.PRESET_NAMES`, as 64 hexadecimal digits.

    Raises:
        EmotionError: one of the eight is missing.
    """
    digest = hashlib.sha256()
    for name in PRESET_NAMES:
        digest.update(find_prior(name, priors).mu.numpy().astype("<f4").tobytes())
    return digest.hexdigest()
