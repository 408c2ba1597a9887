"""Emotion tokens against the released program's."""

import hashlib

import pytest
import torch
from golden_fixtures import Golden, GoldenFile

from dicetalk.config import EmotionConfig, TokenMLPConfig
from dicetalk.emotion.model import EmotionModel
from dicetalk.pipeline import EmotionRows

FILES = ("emotion_model.safetensors", "emotion_model_full.safetensors")


def config_of(entry: dict) -> EmotionConfig:
    """The sizes of one fixture; a fixture without sizes is the release."""
    if "config" not in entry:
        return EmotionConfig()
    sizes = entry["config"]
    query, bank = (
        TokenMLPConfig(c["channels"], c["intermediate_dim"], c["output_dim"], c["context_tokens"])
        for c in (sizes["emo_linear"], sizes["kv_tokens_linear"])
    )
    attention = sizes["attention"]
    size = sizes["codebook"]["codebook_size"]
    return EmotionConfig(query, bank, size, attention["output_dim"], attention["num_heads"])


@pytest.fixture(scope="module", params=FILES)
def case(request: pytest.FixtureRequest, golden: Golden) -> tuple[GoldenFile, EmotionModel]:
    file = golden.file(request.param)
    model = EmotionModel(config_of(file.entry)).eval()
    weights = file.weights(like=model.state_dict())
    for key, digest in file.entry.get("weight_sha256", {}).items():
        assert hashlib.sha256(weights[key].numpy().tobytes()).hexdigest() == digest, key
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert {k.partition(".")[0] for k in missing} <= {"classifier"}
    return file, model


def priors_of(file: GoldenFile, name: str) -> torch.Tensor:
    """The priors ``(frames, 256)`` of a recorded case; the zero prior need not be stored."""
    stored = file.inputs()
    prior = stored.get(f"{name}/prior", torch.zeros(1, 256) if name == "uncond" else None)
    return prior.flatten(0, -2)


@torch.no_grad()
def produced(model: EmotionModel, name: str, priors: torch.Tensor) -> torch.Tensor:
    """What the model makes for the recorded output `name`."""
    nearest = model.codebook.nearest(priors)
    leaf = name.rpartition("/")[2]
    if leaf == "encoding_indices":
        return nearest.indices[:, None]
    if leaf == "quantized":
        return nearest.quantized[None, :, None, None]
    if leaf == "codebook_vq_loss":
        return nearest.vq_loss
    tokens, retrieved = model.retrieved_tokens(priors)
    if leaf == "vq_loss":
        return retrieved.vq_loss
    tokens = tokens if "retrieval_True" in name else model.tokens(priors)
    stride = int(leaf.removeprefix("tokens").removeprefix("_every").removesuffix("th") or 0)
    return tokens.flatten()[::stride] if stride else tokens[None]


def test_every_recorded_output(case: tuple[GoldenFile, EmotionModel]) -> None:
    file, model = case
    # The whole bank retrieves nothing: the program's zero loss there has no counterpart in ours.
    names = [n for n in file.output_names() if not n.startswith("test/") and not n.endswith("retrieval_False/vq_loss")]
    assert names
    for name in names:
        file.check(name, produced(model, name, priors_of(file, name.partition("/")[0])))


@torch.no_grad()
def test_tokens_that_the_program_keeps(case: tuple[GoldenFile, EmotionModel]) -> None:
    file, model = case
    names = file.output_names("test/")
    if not names:
        pytest.skip("not recorded in this file")
    mu = file.inputs()["mu"]
    for name in names:
        _, condition, path = name.split("/")
        priors = torch.zeros_like(mu) if condition == "uncond" else mu
        tokens = model.tokens(priors) if path == "retrieval_False" else model.retrieved_tokens(priors)[0]
        file.check(name, tokens[0])


@torch.no_grad()
@pytest.mark.parametrize("retrieval", [True, False])
def test_setting_leads_to_the_recorded_path(case: tuple[GoldenFile, EmotionModel], retrieval: bool) -> None:
    file, model = case
    names = file.output_names("test/") or [n for n in file.output_names("cond/") if n.endswith("/tokens")]
    names = [name for name in names if f"retrieval_{retrieval}" in name and "uncond" not in name]
    for name in names:
        priors = file.inputs()["mu"] if name.startswith("test/") else priors_of(file, name.partition("/")[0])
        bank = None if retrieval else model.bank_context(priors)
        rows = EmotionRows(priors, model, bank, model.emo_linear.context_tokens, retrieval)
        tokens = rows(torch.arange(len(rows)), torch.device("cpu"), torch.float32)
        file.check(name, tokens[1] if name.startswith("test/") else tokens[None, 1:])
    if not names:
        pytest.skip("not recorded whole in this file")


@torch.no_grad()
def test_bank_computed_once_serves_every_prior(case: tuple[GoldenFile, EmotionModel]) -> None:
    file, model = case
    zero = torch.zeros(1, 256)
    bank = model.bank_context(zero)
    priors = torch.cat([priors_of(file, "cond"), zero])
    both = model.tokens(priors, bank)
    tolerance = max(v["atol"] for k, v in file.entry["tolerance"].items() if "retrieval_False/tokens" in k)
    for row, prior in zip(both, priors, strict=True):
        assert (row - model.tokens(prior[None])[0]).abs().max() <= tolerance


def test_state_dict_has_the_released_keys(golden: Golden) -> None:
    released = golden.json("keys/emo_model.pth.keys.json")
    with torch.device("meta"):
        ours = EmotionModel(EmotionConfig()).state_dict()
    assert {k: list(v.shape) for k, v in ours.items()} == released
