"""`import dicetalk.pipeline` costs little more than `import torch`, which it needs."""

import json
import subprocess
import sys

HEAVY = ("transformers", "diffusers", "librosa", "numba", "scipy", "sklearn", "matplotlib", "huggingface_hub")

ROUNDS = 4
MOST = 1.5
"""Ratio of the two costs; about 1.25 where it was measured, 3 when transformers was imported as well."""


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def import_cost(module: str) -> float:
    """Processor seconds of importing `module` in a process of its own."""
    code = f"import time; start = time.process_time(); import {module}; print(time.process_time() - start)"
    return float(python(code))


def test_pipeline_imports_nothing_heavy():
    code = f"""
import json, sys
import dicetalk.pipeline
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    assert json.loads(python(code)) == []


def test_what_was_put_off_is_imported_where_it_is_needed():
    code = """
import numpy as np
from dicetalk.audio.whisper import log_mel_chunks
print(next(log_mel_chunks(np.zeros(1600, np.float32))).shape)
"""
    assert "80, 3000" in python(code)


def test_pipeline_costs_at_most_half_more_than_torch():
    import_cost("dicetalk.pipeline")  # reads the files and writes the bytecode, once
    # In turn, so that a busy machine slows both; processor time, of which waiting is no part.
    pairs = [(import_cost("torch"), import_cost("dicetalk.pipeline")) for _ in range(ROUNDS)]
    torch, pipeline = (min(costs) for costs in zip(*pairs, strict=True))
    assert pipeline / torch <= MOST, f"{pipeline:.2f} s against {torch:.2f} s"
