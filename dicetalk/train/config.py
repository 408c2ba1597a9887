"""Settings of a training run: a YAML file becomes frozen dataclasses; what does not fit is refused by name."""

import math
import re
import types
import typing
from collections.abc import Hashable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from dicetalk.bench.sizes import SIZES
from dicetalk.checkpoints.variants import VARIANTS
from dicetalk.config import FULL, ModelConfig
from dicetalk.emotion.embedder import EmbedderConfig
from dicetalk.errors import DiceTalkError, SettingError
from dicetalk.paths import read_limited
from dicetalk.settings import FPS
from dicetalk.train.losses import P_MEAN, P_STD

Bank = Literal["retrieve", "learnable", "none"]
if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

MAX_CONFIG_BYTES = 1 << 20


def within(default: Any, low: float, high: float = math.inf, above: bool = False) -> Any:
    """A number from `low` (not itself if `above`) to `high`."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


@dataclass(frozen=True)
class LoopConfig:
    """Settings that every training run has.

    Args:
        steps: optimizer steps of the whole run.
        learning_rate: of AdamW after the warm-up.
        warmup_steps: over which it rises from zero.
        decay: what follows: ``constant``, or ``cosine`` down to nearly zero at the last step.
        weight_decay: of AdamW.
        clip_norm: largest norm of all gradients together.
        accumulation: batches of each step, one after another; each process has as many.
        precision: ``bf16`` computes in bfloat16; weights, their averages and losses stay in float32.
        device: ``auto`` leaves the choice to Accelerate; ``cpu`` is for a machine whose GPU is busy.
        ema_decay: of the moving average of the weights, which is what is validated and exported.
        log_every: steps between rows of ``train.csv``; a row holds means since the one before.
        validate_every: steps between rows of ``validation.csv``; 0 never validates.
        validation_batches: how many, always the same; each process has as many.
        checkpoint_every: steps between checkpoints; the last step always has one.
        keep_checkpoints: how many of the newest stay.
        workers: processes that read data; 0 reads between steps.
        seed: of everything that is drawn.
    """

    steps: int = within(100_000, 1)
    learning_rate: float = within(1e-4, 0, above=True)
    warmup_steps: int = within(500, 0)
    decay: Literal["constant", "cosine"] = "constant"
    weight_decay: float = within(0.01, 0)
    clip_norm: float = within(1.0, 0, above=True)
    accumulation: int = within(1, 1)
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu"] = "auto"
    ema_decay: float = within(0.999, 0, 1)
    log_every: int = within(50, 1)
    validate_every: int = within(1000, 0)
    validation_batches: int = within(8, 1)
    checkpoint_every: int = within(1000, 1)
    keep_checkpoints: int = within(2, 1)
    workers: int = within(2, 0)
    seed: int = within(0, 0, 2**32 - 1)


@dataclass(frozen=True)
class EmbedderTraining:
    """``train embedder``.

    Args:
        data: folder of shards that `dicetalk prepare` wrote.
        out: folder for checkpoints, curves and the exported embedder.
        embedder: sizes; ``visual_fps`` is 12.5, ``visual_dim`` and ``audio_dim`` are those of the shards.
        loop: see :class:`LoopConfig`.
        identities: in a batch.
        emotions: of each of them (or videos, where no emotion is known): other emotions of one face are the negatives
            that keep the identity out of the prior.
        clips: of each emotion, so that a clip has positives.
        shortest: frames of the shortest part of a clip that is embedded.
        longest: frames of the longest.
        modality_dropout: part of the clips that lose face or speech.
        temperature: tau of eq. 7.
        intensity_apart: let clips of one emotion at different intensities be negatives of each other, so that a prior
            has to tell how strong an emotion is. The paper's positives share identity and emotion.
        audio_only: learn from speech alone; without it clips need expression coefficients.
        anchors: folder with the eight released priors, ``NAME.npy``, that the emotions' means are drawn to; or none.
        anchor_weight: of that.
    """

    data: Path
    out: Path
    embedder: EmbedderConfig = field(default_factory=lambda: EmbedderConfig(visual_fps=FPS))
    loop: LoopConfig = LoopConfig()
    identities: int = within(4, 2)
    emotions: int = within(4, 2)
    clips: int = within(4, 2)
    shortest: int = within(12, 1)
    longest: int = within(75, 1)
    modality_dropout: float = within(0.5, 0, 1)
    temperature: float = within(0.1, 0, above=True)
    intensity_apart: bool = False
    audio_only: bool = False
    anchors: Path | None = None
    anchor_weight: float = within(30.0, 0, above=True)

    def __post_init__(self) -> None:
        if self.shortest > self.longest:
            raise SettingError(f"shortest: {self.shortest} frames are more than the longest, {self.longest}.")
        if self.embedder.visual_fps != FPS:
            raise SettingError(
                f"embedder: visual_fps is {self.embedder.visual_fps:g}; shards have {FPS} frames a second."
            )


@dataclass(frozen=True)
class Ablations:
    """The rows of the paper's table 4; the defaults are the method.

    Args:
        bank: ``retrieve`` is the method (eq. 9-11, 17); ``learnable`` attends to all entries, which learn as plain
            embeddings, without retrieval and eq. 17; ``none`` gives the prior's own tokens to the UNet.
        classifier: emotion classification of the UNet's features (eq. 16).
        sampled_prior: draw the prior from its Gaussian (eq. 6); off takes its mean.
    """

    bank: Bank = "retrieve"
    classifier: bool = True
    sampled_prior: bool = True


@dataclass(frozen=True)
class DiffusionTraining:
    """``train diffusion``.

    Args:
        data: folder of shards that `dicetalk prepare` wrote.
        out: folder for checkpoints, curves and the exported model.
        models: folder with SVD's VAE and image encoder, and with what `start` needs.
        embedder: file that `train embedder` exported.
        model: sizes: ``full``, ``tiny``, the name of another size of `dicetalk bench`, or a whole table of
            :class:`ModelConfig`.
        loop: see :class:`LoopConfig`.
        start: weights to begin with: ``random``, made to predict the portrait at first; ``svd``, an SVD UNet
            (diffusers' ``unet`` folder in `models`) with adapters that do nothing at first; or ``dice``, the released
            or converted DICE-Talk networks in `models`.
        fresh_emotion: with ``start: dice``, begin with a random emotion model all the same: rows of table 4 that differ
            in it are learned from the same networks, without training each from nothing.
        trained: ``all``, or ``adapters``, which leaves SVD's own layers of the UNet as they are.
        ablations: see :class:`Ablations`.
        batch_size: clips of a batch, in each process.
        window: frames of a clip that are denoised together.
        prior_frames: most frames of the part of a clip whose emotion is embedded.
        drop_rate: part of the clips that lose the audio, the image, the emotion, and as many all three.
        portrait_only_rate: part of the clips that lose audio and emotion; the paper has none, see
            :func:`dicetalk.train.losses.drop_conditions`.
        whole_bank_rate: part of the clips whose prior attends to the whole bank, as in inference (eq. 12-13), not to
            its nearest entry (eq. 10-11); only with ``bank: retrieve``. The paper has none, and then no attention has
            ever chosen between entries when inference asks it to.
        mixed_rate: part of the clips whose prior is not read from them but mixed, as in inference, from the eight
            priors in `models`: neutral's and the clip's emotion's by its intensity. The paper has none, and then the
            network has met the emotions at both ends of such a mix but nothing in between: what an embedder reads from
            a weak emotion need not lie on the line.
        classification_weight: lambda of eq. 15.
        sigma_mean: mean of log sigma. SVD's own 0.7 refines a trained network; one that starts at random may need more.
        sigma_std: its standard deviation.
        face_weight: how much the face counts for the denoising loss against what is around it; 1, as in the paper, is
            no difference. A small picture is mostly background, and speech and emotion change a small part of it.
        mouth_weight: how much the mouth counts, likewise.
        even_channels: let the latents' channels count for the denoising loss against the deviation of each. A small VAE
            may keep brightness in channels of five times the deviation of those with the colours, which are hardly
            learned then.
        emotion_rate: part of the learning rate for the emotion model. At a high one its attention chooses between few
            tokens for good, before the UNet has learned to tell the emotions by them.
        weakest: intensity of the weakest emotional clips; weaker ones are left out.
        audio_only: make the priors of speech alone; without it clips need expression coefficients.
        ordinary_share: part of the clips that are neutral or of unknown emotion; half of them in the paper.
            A training that sees mostly emotions learns sooner what each looks like.
        revive_every: steps after which bank entries that no prior was nearest to move to where priors are; 0 never.
        motion_bucket: head motion bucket that the network is conditioned on.
        expression_bucket: facial motion bucket that the network is conditioned on.
        gradient_checkpointing: compute the UNet's blocks twice instead of keeping what they computed.
        latents: folder for the clips' latents, made once and used again; none is ``latents`` in `out`.
    """

    data: Path
    out: Path
    models: Path
    embedder: Path
    model: ModelConfig = FULL
    loop: LoopConfig = LoopConfig()
    start: Literal["random", "svd", "dice"] = "svd"
    fresh_emotion: bool = False
    trained: Literal["all", "adapters"] = "all"
    ablations: Ablations = Ablations()
    batch_size: int = within(1, 1)
    window: int = within(25, 1)
    prior_frames: int = within(50, 1)
    drop_rate: float = within(0.05, 0, 0.25)
    portrait_only_rate: float = within(0.0, 0, 0.2)
    whole_bank_rate: float = within(0.0, 0, 1)
    mixed_rate: float = within(0.0, 0, 1)
    classification_weight: float = within(0.1, 0)
    sigma_mean: float = within(P_MEAN, -10, 10)
    sigma_std: float = within(P_STD, 0, 10, above=True)
    face_weight: float = within(1.0, 0, above=True)
    mouth_weight: float = within(1.0, 0, above=True)
    even_channels: bool = False
    emotion_rate: float = within(1.0, 0, 1, above=True)
    weakest: float = within(0.0, 0, 1)
    audio_only: bool = False
    ordinary_share: float = within(0.5, 0, 1)
    revive_every: int = within(500, 0)
    motion_bucket: float = within(8.0, 0, 255)
    expression_bucket: float = within(16.0, 0, 255)
    gradient_checkpointing: bool = False
    latents: Path | None = None

    def __post_init__(self) -> None:
        if self.whole_bank_rate and self.ablations.bank != "retrieve":
            raise SettingError(
                f"whole_bank_rate is {self.whole_bank_rate:g}, which means nothing with bank: {self.ablations.bank}."
            )
        if self.fresh_emotion and self.start != "dice":
            raise SettingError(
                f"fresh_emotion means nothing with start: {self.start}, where the emotion model is random anyway."
            )
        if 4 * self.drop_rate + self.portrait_only_rate > 1:
            raise SettingError(
                f"drop_rate {self.drop_rate:g} and portrait_only_rate {self.portrait_only_rate:g}: four times the "
                "first and once the second are more than 1."
            )

    @property
    def latents_folder(self) -> Path:
        """Where the clips' latents are kept."""
        return self.latents or self.out / "latents"


def read_config(path: Path | str, kind: type[Config]) -> Config:
    """Read a YAML file as a `kind`.

    Raises:
        SettingError: the file cannot be read, an entry is unknown, missing or given twice, or a value is of the wrong
            type or out of range; or PyYAML is not installed.
    """
    content = read_limited(path, MAX_CONFIG_BYTES, SettingError, "the config")
    path = Path(path)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: the config cannot be read ({error}).") from error
    return build(kind, parse_yaml(text, path), str(path))


def parse_yaml(text: str, path: Path) -> Any:
    """The content of a YAML file; keys must not repeat, and ``1e-4`` is a number, as in YAML 1.2.

    Aliases are refused: a few of them name more values than memory holds.

    Raises:
        SettingError: it is no YAML, or PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise SettingError('Training needs PyYAML and Accelerate: pip install "dicetalk[train]".') from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key_node, _ in node.value:
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, Hashable):
                    continue  # PyYAML itself refuses it
                if key in seen:
                    raise SettingError(f"{path}: entry {key!r} is given twice, near line {node.start_mark.line + 1}.")
                seen.add(key)
            return super().construct_mapping(node, deep)

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
            if self.check_event(yaml.AliasEvent):
                alias = self.peek_event()
                raise SettingError(
                    f"{path}: line {alias.start_mark.line + 1} has the alias *{alias.anchor}. Write its value out."
                )
            return super().compose_node(parent, index)

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), "-+0123456789"
    )
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise SettingError(f"{path} is no valid YAML: {error}") from error
    except RecursionError as error:
        raise SettingError(f"{path}: the entries are nested too deep for a config.") from error


def build(kind: type[Config], values: Any, where: str) -> Config:
    """A dataclass of plain `values`; `where` is what messages call them.

    Raises:
        SettingError: see :func:`read_config`.
    """
    if not isinstance(values, dict):
        raise SettingError(f"{where}: expected a table of entries, got {values!r}.")
    known = {f.name: f for f in fields(kind)}
    for name in values:
        if name not in known:
            raise SettingError(f"{where}: unknown entry {name!r}. Known: {', '.join(known)}.")
    hints, built = typing.get_type_hints(kind), {}
    for name, entry in known.items():
        if name in values:
            value = _convert(hints[name], values[name], f"{where}: {name}")
            built[name] = _ranged(value, entry.metadata, f"{where}: {name}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise SettingError(f"{where}: entry {name!r} is missing.")
    try:
        return kind(**built)
    except SettingError as error:
        raise SettingError(f"{where}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):  # only "or none" occurs
        return None if value is None else _convert(hint.__args__[0], value, where)
    if hint is ModelConfig:
        return _model_config(value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, where)
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise SettingError(f"{where}: expected one of {', '.join(choices)}, got {value!r}.")
        return value
    accepted, words = _KINDS[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool) or value == "":
        raise SettingError(f"{where}: expected {words}, got {value!r}.")
    return hint(value)


_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    Path: ((str,), "a path"),
}


def _ranged(value: Any, limits: Any, where: str) -> Any:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return value
    # Whole numbers without limits of their own are sizes of networks.
    low = limits.get("low", 1 if isinstance(value, int) else -math.inf)
    high, above = limits.get("high", math.inf), limits.get("above", False)
    if not math.isfinite(value) or not low <= value <= high or (above and value == low):
        bounds = f"{'above' if above else 'of at least'} {low:g}" + (
            f" and at most {high:g}" if high < math.inf else ""
        )
        raise SettingError(f"{where}: expected a number {bounds}, got {value!r}.")
    return value


def _model_config(value: Any, where: str) -> ModelConfig:
    if isinstance(value, str):
        sizes = {name: size.config for name, size in SIZES.items()}
        named = {name: variant.config for name, variant in VARIANTS.items()} | sizes
        if value not in named:
            raise SettingError(f"{where}: expected a table, or one of {', '.join(named)}, got {value!r}.")
        return named[value]
    try:
        return ModelConfig.from_dict(value)
    except DiceTalkError as error:
        raise SettingError(f"{where}: {error}") from error
