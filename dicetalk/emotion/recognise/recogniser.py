"""A classifier of faces as scores of the eight emotions, and the priors that these scores mix.

Nobody has published an embedder for the released model, but its eight priors are known. A face that looks 70 % happy
and 20 % surprised is taken to be ``neutral + 0.7 k (happy - neutral) + 0.2 k (surprised - neutral)``.
"""

from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch

from dicetalk.emotion.algebra import smooth
from dicetalk.emotion.mix import NEUTRAL, check_weight
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior, find_prior
from dicetalk.emotion.recognise.description import RecogniserDescription, find_description
from dicetalk.emotion.recognise.network import Network, open_network
from dicetalk.emotion.reference.face_track import FaceCrop
from dicetalk.emotion.track import EmotionTrack
from dicetalk.errors import CheckpointError
from dicetalk.paths import checked_path

BUNDLED = "assets/face_expression/face_expression.onnx"


class Recogniser:
    """Scores faces. Runs on the CPU, one face at a time; see :func:`load_recogniser`.

    Args:
        network: runs the classifier.
        description: of what it wants and gives.
        name: what messages call it.
    """

    def __init__(self, network: Network, description: RecogniserDescription, name: str):
        self.network, self.description, self.name = network, description, name
        self._columns = [(i, PRESET_NAMES.index(c)) for i, c in enumerate(description.classes) if c is not None]

    @property
    def crop(self) -> FaceCrop:
        """How it wants faces cut out."""
        return self.description.crop

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Probabilities of the eight presets in face crops.

        Outputs that mean nothing here are left out before the probabilities are made to sum to 1; emotions that the
        classifier does not know stay 0.

        Args:
            crops: uint8 RGB ``(N, size, size, 3)``.

        Returns:
            float32 ``(N, 8)`` in the order of the presets.

        Raises:
            CheckpointError: the classifier fails, or its outputs are not those that were described.
        """
        return np.stack([self._score(crop) for crop in crops])

    def _score(self, crop: np.ndarray) -> np.ndarray:
        output = np.asarray(self.network(classifier_input(crop, self.description)), np.float64).ravel()
        described = len(self.description.classes)
        if len(output) != described or not np.isfinite(output).all():
            raise CheckpointError(
                f"{self.name}: the network gives {len(output)} numbers, not all of them finite or not {described}, "
                f"which are the classes of its description."
            )
        sources, targets = (list(column) for column in zip(*self._columns, strict=True))
        known = output[sources]
        if self.description.output == "logits":
            known = np.exp(known - known.max())
        elif known.min() < -1e-3:
            raise CheckpointError(f"{self.name}: it gives {known.min():.3g}, no probability. Describe it as 'logits'.")
        known = known.clip(min=0)
        scores = np.zeros(len(PRESET_NAMES), np.float32)
        scores[targets] = known / max(known.sum(), 1e-12)
        return scores


def load_recogniser(path: Path | str | None = None) -> Recogniser:
    """Load a classifier of faces.

    Args:
        path: ONNX file, described by the JSON file beside it or by its name (see
            :mod:`dicetalk.emotion.recognise.description`); none takes the small one of the package, which knows seven
            of the eight emotions (no contempt), and clear faces better than subtle ones.

    Raises:
        CheckpointError: the file is missing, damaged, or needs what cannot be run here.
        EmotionError: it is not described, or wrongly.
    """
    if path is None:
        with as_file(files("dicetalk").joinpath(BUNDLED)) as bundled:
            return Recogniser(open_network(bundled, trusted=True), find_description(bundled), str(bundled))
    path = checked_path(path, CheckpointError)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file. Give the ONNX file of a recogniser of faces.")
    description = find_description(path)
    return Recogniser(open_network(path), description, str(path))


def classifier_input(crop: np.ndarray, description: RecogniserDescription) -> np.ndarray:
    """A face crop, uint8 RGB ``(size, size, 3)``, as the classifier wants it, float32 with a batch axis of 1."""
    pixels = crop.astype(np.float32) / 255
    if description.colour == "bgr":
        pixels = pixels[..., ::-1]
    elif description.colour == "grey":
        pixels = pixels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    pixels = (pixels - np.array(description.mean, np.float32)) / np.array(description.std, np.float32)
    if description.layout == "nchw":
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[None], dtype=np.float32)


def blend(scores: np.ndarray, priors: Mapping[str, EmotionPrior], strength: float = 1.0) -> torch.Tensor:
    """``neutral + sum_i p_i k (mu_i - neutral)`` of every moment.

    Args:
        scores: probabilities p of the eight presets, ``(T, 8)``.
        priors: the eight priors, by name.
        strength: k, 0 to 2.

    Returns:
        float32 ``(T, 256)``.

    Raises:
        EmotionError: a prior is missing, or the strength is out of range.
    """
    check_weight(strength, "The strength")
    neutral = find_prior(NEUTRAL, priors).mu
    differences = torch.stack([find_prior(name, priors).mu for name in PRESET_NAMES]) - neutral
    return neutral + strength * torch.from_numpy(np.asarray(scores, np.float32)) @ differences


def blended_prior(mus: torch.Tensor, counted: np.ndarray, name: str) -> EmotionPrior:
    """Mean and spread over time of priors `mus` ``(T, 256)``; one moment has no spread that is known.

    Args:
        mus: of every moment.
        counted: true where the face was seen, ``(T,)``.
        name: of the prior.
    """
    seen = mus[torch.from_numpy(counted)]
    sigma = seen.std(dim=0, correction=0) if len(seen) > 1 else None
    return EmotionPrior(seen.mean(dim=0), sigma, name)


def blended_track(mus: torch.Tensor, smoothing: float, name: str) -> EmotionTrack:
    """A curve of one prior for each frame at 12.5 fps.

    Args:
        mus: of every frame, ``(T, 256)``.
        smoothing: standard deviation, in seconds, of the Gaussian that the curve is blurred with; the spread of what it
            takes away is the track's sigma.
        name: of the priors.

    Raises:
        EmotionError: the smoothing is out of range.
    """
    raw = EmotionTrack.curve([EmotionPrior(mu, name=name) for mu in mus])
    smoothed = smooth(raw, smoothing).at([keyframe.seconds for keyframe in raw.keyframes]).mu
    sigma = (mus - smoothed).square().mean(dim=0).sqrt() if len(mus) > 1 else None
    return EmotionTrack.curve([EmotionPrior(mu, sigma, name) for mu in smoothed])
