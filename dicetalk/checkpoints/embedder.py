"""A trained emotion embedder in one safetensors file with its sizes."""

from pathlib import Path

from dicetalk.checkpoints.single import SingleFile
from dicetalk.emotion.embedder import EmbedderConfig, EmotionEmbedder

_FILE = SingleFile("dicetalk.embedder", "`train embedder`", EmbedderConfig, EmotionEmbedder, {"layers": 128})


def save_embedder(embedder: EmotionEmbedder, path: Path) -> None:
    """Write the embedder in float32: it is small, and its variances are not.

    Raises:
        OutputError: the file cannot be written.
    """
    _FILE.save(embedder, path)


def load_embedder(path: Path | str) -> EmotionEmbedder:
    """Read what :func:`save_embedder` wrote; on the CPU, ready for inference.

    Raises:
        CheckpointError: the file is missing, damaged or no embedder.
    """
    return _FILE.load(path)
