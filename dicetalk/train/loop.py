"""The training loop that the embedder and the diffusion model share.

Accelerate places models, averages gradients over processes and machines, and computes in bfloat16. Everything random in
a step comes from generators seeded with the run's seed, the process and the step's number, so a run that is killed and
started again does exactly what it would have done.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

from dicetalk.errors import SettingError
from dicetalk.files import make_folder, only_writer
from dicetalk.hooks import SILENT, Hooks
from dicetalk.train.checkpoint import defaults, entries, resume, save_checkpoint, state_of, sweep_checkpoints
from dicetalk.train.clip_record import DatasetError
from dicetalk.train.config import LoopConfig
from dicetalk.train.curves import Curves, Meter, finite_means, means
from dicetalk.train.data import Batch, CheckedBatches, DrawBatch, Failed, NumberedBatches
from dicetalk.train.initial import seed_for

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers.training_utils import EMAModel

CHECKPOINTS, CURVES = "checkpoints", "curves"
LONGEST_WAIT = timedelta(hours=12)
"""How long a process waits for the others. NCCL's own ten minutes are over before a data set is encoded, whose clips
take the processes unequal times."""

_OTHER_LAUNCHERS = {"DEEPSPEED": "DeepSpeed", "FSDP": "FSDP", "MEGATRON_LM": "Megatron-LM"}
_BATCHES, _NOISE, _VALIDATION, _VALIDATION_NOISE = range(4)
"""Streams of random numbers."""


class Task(Protocol):
    """A module that is trained, with its data and what it exports."""

    @property
    def module(self) -> nn.Module:
        """Called with what :meth:`inputs` returns; gives tensors by name.

        Of these ``loss`` is minimised and every other scalar is logged. Parameters that shall not be trained have no
        gradient.
        """
        ...

    @property
    def batches(self) -> Mapping[str, DrawBatch]:
        """Sources of batches for ``train`` and, if there are clips for it, ``validation``.

        It goes to reading processes.
        """
        ...

    @property
    def config(self) -> Any:
        """Dataclass of the other settings that decide the result, or `None`; a resumed run must have the same."""
        ...

    @property
    def rates(self) -> Mapping[str, float]:
        """Parts of the learning rate for parameters whose names begin so; the others have all of it."""
        ...

    @property
    def contents(self) -> Mapping[str, str]:
        """Digests of the files that `config` names and the result depends on; a run goes on with the same."""
        ...

    def inputs(self, batch: Batch, generator: torch.Generator) -> dict[str, Any]:
        """Arguments of `module` for a batch that lies on the training device; `generator` is on the CPU."""
        ...

    def after_step(self, run: "Run", outputs: list[dict[str, torch.Tensor]]) -> None:
        """Called after each optimizer step with what `module` returned for its batches."""
        ...

    def measures(self) -> dict[str, float]:
        """Further columns of ``train.csv``; called when a row is written."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """State of `after_step` and `measures`."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        ...

    def export(self, folder: Path) -> list[Path]:
        """Write what inference loads, with the weights that `module` has now."""
        ...


class PlainTask:
    """Defaults of a :class:`Task` without state beside its weights."""

    config: Any = None
    rates: Mapping[str, float] = MappingProxyType({})
    contents: Mapping[str, str] = MappingProxyType({})

    def after_step(self, run: "Run", outputs: list[dict[str, torch.Tensor]]) -> None:
        """Nothing to do."""

    def measures(self) -> dict[str, float]:
        """Nothing more than the losses."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to remember."""


@dataclass(frozen=True)
class Run:
    """The moving parts of a run, for :meth:`Task.after_step`.

    Args:
        accelerator: of all processes.
        optimizer: Accelerate's wrapper of AdamW.
        ema: moving averages of `trained`.
        trained: parameters with gradients.
        step: steps done.
        seed: of the run.
    """

    accelerator: "Accelerator"
    optimizer: Any
    ema: "EMAModel"
    trained: list[nn.Parameter]
    step: int
    seed: int

    @torch.no_grad()
    def replace_rows(self, parameter: nn.Parameter, values: torch.Tensor, rows: torch.Tensor) -> None:
        """Set `parameter` to `values`, and forget what the optimizer and the average knew of `rows` (booleans)."""
        parameter.copy_(values)
        for moment in self.optimizer.state[parameter].values():
            if torch.is_tensor(moment) and moment.shape == parameter.shape:
                moment[rows] = 0
        place = next(i for i, other in enumerate(self.trained) if other is parameter)
        self.ema.shadow_params[place][rows] = parameter.detach()[rows]


def make_accelerator(config: LoopConfig) -> "Accelerator":
    """Accelerate's handle on devices and processes.

    Raises:
        SettingError: Accelerate is not installed, its launcher asks for more than copies of the model that each see
            other clips, or the device has no bfloat16.
    """
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs
    except ImportError as error:
        raise SettingError('Training needs Accelerate and PyYAML: pip install "dicetalk[train]".') from error
    for variable, name in _OTHER_LAUNCHERS.items():
        if os.environ.get(f"ACCELERATE_USE_{variable}", "").lower() in ("1", "true", "yes"):
            raise SettingError(
                f"Accelerate's configuration asks for {name}, which this training does not know: every process holds "
                "the whole model. Use `accelerate launch --multi_gpu`, or run `accelerate config` again without it."
            )
    # A process that trains several networks, one after another, may train each at a precision of its own.
    AcceleratorState._reset_state()
    try:
        return Accelerator(
            mixed_precision="bf16" if config.precision == "bf16" else "no",
            # As a plugin, because a variable of the launcher's counts more than the plain number.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=config.accumulation),
            cpu=config.device == "cpu",
            kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)],
        )
    except ValueError as error:
        raise SettingError(f"precision: {config.precision} cannot be used here ({error}).") from error


def end_processes() -> None:
    """Take leave of the other processes, if there are any. For the very end: nothing can be trained afterwards.

    A process that ends without can be killed by its own connections, which are still waiting.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def process_hooks(accelerator: "Accelerator", hooks: Hooks) -> Hooks:
    """`hooks` in the main process; in the others what only cancels, where all of them would tell the same."""
    if accelerator.is_main_process:
        return hooks
    return Hooks(cancelled=hooks.cancelled, notice=lambda _: None)


def learning_rate(config: LoopConfig, step: int) -> float:
    """Of step `step`, counted from 1: linear warm-up, then what ``config.decay`` says."""
    rise = min(1.0, step / (config.warmup_steps + 1))
    if config.decay == "constant" or step <= config.warmup_steps:
        return config.learning_rate * rise
    part = (step - 1 - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * part))


def run_training(
    task: Task, config: LoopConfig, out: Path, accelerator: "Accelerator", hooks: Hooks = SILENT
) -> list[Path]:
    """Train from the newest checkpoint in `out`, or from the start, to the last step, and export.

    A run goes on with the config that it was begun with. What may change on the way: `steps`, `learning_rate`,
    `warmup_steps`, `decay` and `clip_norm`, which act from there on; and what touches no weight, `workers`, `device`,
    how often is logged, validated and saved, and where `out` and the latents are
    (:data:`dicetalk.train.checkpoint.STEERING`, ``TECHNICAL``). The number of processes is not compared, although each
    step sees as many batches.

    Args:
        task: what is trained; its frozen networks lie on ``accelerator.device`` already.
        config: see :class:`LoopConfig`.
        out: folder for ``checkpoints``, ``curves`` and the export.
        accelerator: of :func:`make_accelerator`.
        hooks: progress of `train` in steps.

    Returns:
        The exported files.

    Raises:
        SettingError: the loss is no longer a number, or a checkpoint has more than ``config.steps``.
        CheckpointError: checkpoints cannot be written or read, or belong to another training; an entry of the config
            that differs is named.
        DatasetError: too many clips cannot be read.
        OutputError: `out` cannot be written, or another training is writing there.
        Cancelled: the caller asked to stop; the run can go on from its last checkpoint.
    """
    if not accelerator.is_main_process:
        return _train(task, config, out, accelerator, hooks)
    make_folder(out)
    with only_writer(out):  # two runs would remove each other's checkpoints
        return _train(task, config, out, accelerator, hooks)


def _train(task: Task, config: LoopConfig, out: Path, accelerator: "Accelerator", hooks: Hooks) -> list[Path]:
    from diffusers.training_utils import EMAModel

    trained = [p for p in task.module.parameters() if p.requires_grad]
    groups = _groups(task.module, task.rates)
    optimizer = torch.optim.AdamW(
        [{"params": parameters} for parameters in groups.values()],
        config.learning_rate,
        weight_decay=config.weight_decay,
    )
    module, optimizer = accelerator.prepare(task.module.train(), optimizer)
    ema, meter = EMAModel(trained, decay=config.ema_decay), Meter()
    if accelerator.is_main_process:
        sweep_checkpoints(out / CHECKPOINTS)
    accelerator.wait_for_everyone()
    contents = {f"contents of {name}": digest for name, digest in task.contents.items()}
    begun = ({} if task.config is None else entries(task.config, out)) | entries(config, out, "loop.") | contents
    usual = ({} if task.config is None else defaults(task.config)) | defaults(config, "loop.") | contents
    start = resume(task, optimizer, ema, meter, begun, usual, out / CHECKPOINTS, accelerator, hooks)

    batches = _checked(_loader(task, config, start, accelerator))
    curves = Curves(out / CURVES, start, hooks) if accelerator.is_main_process else None
    try:
        for step in range(start + 1, config.steps + 1):
            for part, group in zip(groups, optimizer.param_groups, strict=True):
                group["lr"] = part * learning_rate(config, step)
            outputs = _step(task, module, optimizer, trained, config, step, batches, accelerator, hooks)
            for output in outputs:
                meter.add(output)
            ema.step(trained)
            task.after_step(Run(accelerator, optimizer, ema, trained, step, config.seed), outputs)

            if step % config.log_every == 0:
                row = finite_means(meter.totals(accelerator), step)
                row |= task.measures() | {"learning_rate": learning_rate(config, step)}
                meter.sums = {}
                if curves:
                    curves.add("train", step, row)
            if config.validate_every and step % config.validate_every == 0 and "validation" in task.batches:
                values = _validate(task, module, trained, ema, config, accelerator, hooks)
                if curves:
                    curves.add("validation", step, values)
            if step % config.checkpoint_every == 0 or step == config.steps:
                totals = meter.totals(accelerator)
                finite_means(totals, step)
                if accelerator.is_main_process:
                    state = state_of(task, optimizer, ema, totals, step, begun)
                    save_checkpoint(out / CHECKPOINTS, step, state, config.keep_checkpoints)
            hooks.report("train", step, config.steps)
    finally:
        if curves:
            curves.close()

    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return []
    ema.copy_to(trained)
    return task.export(out)


def _groups(module: nn.Module, rates: Mapping[str, float]) -> dict[float, list[nn.Parameter]]:
    """The trained parameters by their part of the learning rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            part = next((part for start, part in rates.items() if name.startswith(start)), 1.0)
            groups.setdefault(part, []).append(parameter)
    return groups


def _loader(task: Task, config: LoopConfig, start: int, accelerator: "Accelerator") -> DataLoader[Batch | Failed]:
    numbered = _numbered(task.batches["train"], config, _BATCHES, accelerator)
    numbers = range(start * config.accumulation, config.steps * config.accumulation)
    return DataLoader(CheckedBatches(numbered), batch_size=None, sampler=numbers, num_workers=config.workers)


def _numbered(draw: DrawBatch, config: LoopConfig, stream: int, accelerator: "Accelerator") -> NumberedBatches:
    process = accelerator.process_index
    return NumberedBatches(draw, (config.seed, stream, process), process, accelerator.num_processes)


def _checked(batches: Iterable[Batch | Failed]) -> Iterator[Batch]:
    """`batches`; what stopped a reading process is raised here, where it is a message and no trace of that process."""
    for batch in batches:
        if isinstance(batch, Failed):
            raise DatasetError(batch.reason)
        yield batch


def _step(
    task: Task,
    module: nn.Module,
    optimizer: Any,
    trained: list[nn.Parameter],
    config: LoopConfig,
    step: int,
    batches: Iterator[Batch],
    accelerator: "Accelerator",
    hooks: Hooks,
) -> list[dict[str, torch.Tensor]]:
    from accelerate.utils import send_to_device

    outputs = []
    for part in range(config.accumulation):
        hooks.check()
        number = (step - 1) * config.accumulation + part
        seed = seed_for(config.seed, _NOISE, accelerator.process_index, number)
        batch = send_to_device(next(batches), accelerator.device)
        inputs = task.inputs(batch, torch.Generator().manual_seed(seed))
        with accelerator.accumulate(module):
            output = module(**inputs)
            accelerator.backward(output["loss"])
            output = {name: value.detach() for name, value in output.items()}
            if accelerator.sync_gradients:
                output["gradient_norm"] = accelerator.clip_grad_norm_(trained, config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        outputs.append(output)
    return outputs


def _validate(
    task: Task,
    module: nn.Module,
    trained: list[nn.Parameter],
    ema: "EMAModel",
    config: LoopConfig,
    accelerator: "Accelerator",
    hooks: Hooks,
) -> dict[str, float]:
    """Means over the validation batches with the averaged weights, which are what is exported."""
    from accelerate.utils import send_to_device

    process, meter = accelerator.process_index, Meter()
    numbered = _numbered(task.batches["validation"], config, _VALIDATION, accelerator)
    ema.store(trained)
    ema.copy_to(trained)
    module.eval()
    try:
        with torch.no_grad():
            for number in range(config.validation_batches):
                hooks.check()
                generator = torch.Generator().manual_seed(seed_for(config.seed, _VALIDATION_NOISE, process, number))
                meter.add(module(**task.inputs(send_to_device(numbered[number], accelerator.device), generator)))
    finally:
        module.train()
        ema.restore(trained)
    return means(meter.totals(accelerator))
