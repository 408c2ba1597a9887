"""Emotion tokens against the released program's."""

import hashlib
import re

import pytest
import torch
from golden_fixtures import Golden, GoldenFile

from dicetalk.adapters import EmotionRows
from dicetalk.config import EmotionConfig, TokenMLPConfig
from dicetalk.emotion.bank import EmotionModel

FILES = r"emotion_model.*\.safetensors"
pytestmark = pytest.mark.files_of_set(FILES)


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


@pytest.fixture(scope="module")
def model(file: GoldenFile) -> EmotionModel:
    model = EmotionModel(config_of(file.entry)).eval()
    weights = file.weights(like=model.state_dict())
    for key, digest in file.entry.get("weight_sha256", {}).items():
        assert hashlib.sha256(weights[key].numpy().tobytes()).hexdigest() == digest, key
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected
    assert {k.partition(".")[0] for k in missing} <= {"classifier"}
    return model


def condition_of(name: str) -> str:
    """The condition of an output: ``cond/...``, or ``test/cond/...``, as the released `test()` passes it on."""
    return name.removeprefix(PROGRAM).partition("/")[0]


PROGRAM = "test/"


def priors_of(file: GoldenFile, name: str, model: EmotionModel) -> torch.Tensor:
    """The priors ``(frames, 256)`` of the output `name`: stored, named in prose, or zeros, which need not be stored."""
    stored, condition = file.inputs(), condition_of(name)
    said = re.match(r"in/([\w/]+)", file.said_of(condition))
    for key in (f"{condition}/prior", condition, *((said[1],) if said else ())):
        if key in stored:
            return stored[key].flatten(0, -2)
    return torch.zeros(1, model.emo_linear.proj1.in_features)


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


def test_every_recorded_output(file: GoldenFile, model: EmotionModel) -> None:
    names = [name for name in file.output_names() if not name.startswith(PROGRAM)]
    assert names
    for name in names:
        if name.endswith(
            "retrieval_False/vq_loss"
        ):  # the whole bank retrieves nothing: there is no loss, recorded as 0
            file.check(name, torch.zeros(()))
        else:
            file.check(name, produced(model, name, priors_of(file, name, model)))


@torch.no_grad()
def test_tokens_that_the_program_keeps(file: GoldenFile, model: EmotionModel) -> None:
    names = file.output_names(PROGRAM)
    if not names:
        pytest.skip("not recorded in this file")
    for name in names:
        priors = priors_of(file, name, model)
        whole_bank = name.endswith("retrieval_False")
        tokens = model.tokens(priors) if whole_bank else model.retrieved_tokens(priors)[0]
        file.check(name, tokens[0])


@torch.no_grad()
@pytest.mark.parametrize("retrieval", [True, False])
def test_setting_leads_to_the_recorded_path(file: GoldenFile, model: EmotionModel, retrieval: bool) -> None:
    compared = 0
    for name in file.output_names():
        priors = priors_of(file, name, model)
        if not name.endswith((f"retrieval_{retrieval}/tokens", f"retrieval_{retrieval}")) or not priors.any():
            continue
        rows = EmotionRows(priors, model, model.emo_linear.context_tokens, retrieval)
        tokens = rows(torch.arange(len(rows)), torch.device("cpu"), torch.float32)
        file.check(name, tokens[1] if name.startswith(PROGRAM) else tokens[None, 1:])
        compared += 1
    if not compared:
        pytest.skip("not recorded whole in this file")


@torch.no_grad()
def test_bank_computed_once_serves_every_prior(file: GoldenFile, model: EmotionModel) -> None:
    priors = torch.cat([priors_of(file, name, model) for name in file.output_names()]).unique(dim=0)
    bank = model.bank_context(priors)
    together = model.tokens(priors, bank)
    tolerance = max(v["atol"] for k, v in file.entry["tolerance"].items() if "retrieval_False" in k and "tokens" in k)
    for row, prior in zip(together, priors, strict=True):
        assert (row - model.tokens(prior[None])[0]).abs().max() <= tolerance


def test_state_dict_has_the_released_keys(golden: Golden) -> None:
    released = golden.json("keys/emo_model.pth.keys.json")
    with torch.device("meta"):
        ours = EmotionModel(EmotionConfig()).state_dict()
    assert {k: list(v.shape) for k, v in ours.items()} == released
