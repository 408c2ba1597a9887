"""The released configuration at its real size, with random weights in every released file's format. Minutes and 16 GB:

python -m pytest tests/full -m full
"""

from pathlib import Path

import av
import pytest
from released_files import write_released

from dicetalk.cli import main
from dicetalk.config import FULL

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.full
@pytest.mark.parametrize("svd_format", ["diffusers", "single-file"])
def test_generate(tmp_path: Path, svd_format: str) -> None:
    models, out = tmp_path / "models", tmp_path / "full.mp4"
    write_released(models, FULL, svd_format)
    assert main(["doctor", str(models)]) == 0
    files = ["--image", str(EXAMPLES / "portrait.jpg"), "--audio", str(EXAMPLES / "speech.wav"), "--out", str(out)]
    small = ["--short-side", "128", "--steps", "2", "--duration", "1", "--device", "cpu", "--dtype", "fp32"]
    assert main(["generate", "--models", str(models), "--emotion", "happy:0.8", *files, *small]) == 0
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 25
        assert container.streams.audio
