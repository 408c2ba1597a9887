"""Distillation: where the student's step has to end, and a run from a model folder to a model folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import write_small_model
from training_runs import ONCE, TINY

from dicetalk.checkpoints.load import load_model
from dicetalk.checkpoints.variants import recommended_settings
from dicetalk.config import SamplingConfig
from dicetalk.denoise.sampler import karras_sigmas, v_to_denoised
from dicetalk.train.distill import DistillTraining, one_step_v, student_config, student_levels, train_distill

GUIDED = replace(
    TINY,
    sampling=SamplingConfig(
        short_side=64, steps=10, portrait_guidance=1.5, expression_guidance=3.0, sigma_min=0.03, sigma_max=20.0
    ),
)


def test_the_student_s_levels_are_some_of_the_teacher_s() -> None:
    for steps, substeps in ((4, 3), (6, 2), (2, 1)):
        sampling = student_config(GUIDED, steps, substeps).sampling
        assert (sampling.steps, sampling.portrait_guidance, sampling.expression_guidance) == (steps, 1.0, 1.0)
        own = karras_sigmas(steps, sampling.sigma_min, sampling.sigma_max)
        teacher = student_levels(GUIDED.sampling, steps, substeps)
        torch.testing.assert_close(own[:-1], teacher[:-1:substeps], rtol=1e-4, atol=0)


def test_a_step_with_the_target_ends_where_the_teacher_ended() -> None:
    generator = torch.Generator().manual_seed(0)
    x, end = torch.randn(2, 3, 4, 2, 2, generator=generator)
    for sigma, last in ((20.0, 3.0), (0.5, 0.1), (0.1, 0.0)):
        high, low = torch.tensor(sigma), torch.tensor(last)
        denoised = v_to_denoised(one_step_v(x, end, high, low), x, high)
        torch.testing.assert_close(x + (x - denoised) / high * (low - high), end, rtol=1e-4, atol=1e-5)


@pytest.fixture
def config(corpus: Path, tmp_path: Path) -> DistillTraining:
    loop = replace(ONCE, steps=12, log_every=1, learning_rate=3e-4, checkpoint_every=6, ema_decay=0.0)
    models = write_small_model(tmp_path / "models", GUIDED)
    return DistillTraining(corpus / "shards", tmp_path / "run", models, loop, substeps=2, batch_size=2, window=5)


def test_a_run_makes_a_model_folder_of_few_steps(config: DistillTraining) -> None:
    (folder,) = train_distill(config)
    teacher, student = (load_model(each, dtype=torch.float32) for each in (config.models, folder))
    settings = recommended_settings(student.config.sampling)
    assert (settings.steps, settings.portrait_guidance, settings.expression_guidance) == (4, 1.0, 1.0)
    assert student.config.unet == teacher.config.unet
    changed = {name for name, weight in student.unet.state_dict().items() if not weight.equal(_of(teacher, name))}
    assert len(changed) > 50
    for mine, its in zip(student.emotion_model.parameters(), teacher.emotion_model.parameters(), strict=True):
        assert torch.equal(mine, its)
    losses = [float(row.split(",")[1]) for row in _rows(config.out / "curves" / "train.csv")]
    assert len(losses) == 12 and sum(losses[-4:]) < sum(losses[:4])
    before = {path: path.stat().st_mtime_ns for path in (config.out / "checkpoints").rglob("*") if path.is_file()}
    train_distill(config)  # nothing is left to do
    assert before == {p: p.stat().st_mtime_ns for p in (config.out / "checkpoints").rglob("*") if p.is_file()}


def _of(model: object, name: str) -> torch.Tensor:
    return model.unet.state_dict()[name]  # type: ignore[attr-defined]


def _rows(path: Path) -> list[str]:
    return path.read_text().splitlines()[1:]
