"""The guided network: one window of a clip through the UNet under three-way guidance, and the memory that it takes."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from dicetalk.denoise.attention import AdapterContext, AttentionContext, mask_pyramid
from dicetalk.denoise.conditioning import Conditioning
from dicetalk.denoise.reuse import FrameMemory
from dicetalk.denoise.sampler import sigma_to_timestep
from dicetalk.denoise.tokens import NOT_KEPT, ProjectedRows
from dicetalk.denoise.unet import DeepFeatures, UNet
from dicetalk.errors import NotEnoughMemoryError
from dicetalk.hooks import SILENT, Hooks
from dicetalk.memory import is_out_of_memory
from dicetalk.settings import SamplerSettings, ramp_values

DEEP_BYTES = 1 << 30
"""That the deep features of a branch may occupy; of a longer clip none are kept, and every call is whole."""


@dataclass(frozen=True)
class Branch:
    """One row of the guidance batch: which conditions it sees and its weight in the sum."""

    portrait: bool
    expression: bool
    weight: float


EVERYTHING = Branch(portrait=True, expression=True, weight=1.0)


def guidance_branches(portrait_scale: float, expression_scale: float) -> list[Branch]:
    """Branches of ``v = v0 + portrait_scale * (v1 - v0) + expression_scale * (v2 - v1)`` in the released order.

    Collected by branch that is ``(1 - p) * v0 + (p - e) * v1 + e * v2``; a branch of weight zero is left out.
    """
    branches = [
        Branch(portrait=False, expression=False, weight=1 - portrait_scale),
        Branch(portrait=True, expression=False, weight=portrait_scale - expression_scale),
        Branch(portrait=True, expression=True, weight=expression_scale),
    ]
    return [branch for branch in branches if branch.weight != 0]


def combine(predictions: torch.Tensor, branches: list[Branch]) -> torch.Tensor:
    """Weighted sum of `predictions` ``(branches, ...)`` in float32."""
    weights = torch.tensor([branch.weight for branch in branches], dtype=torch.float32, device=predictions.device)
    return torch.tensordot(weights, predictions.float(), dims=1)


class GuidedUNet:
    """:data:`dicetalk.denoise.sampler.PredictV` for one clip.

    Args:
        unet: on `device`.
        conditioning: of the clip.
        settings: guidance and adapter scales, and what is used again in later steps.
        device: where the UNet runs.
        dtype: in which it computes.
        hooks: notice when memory did not suffice for the branches together.
    """

    def __init__(
        self,
        unet: UNet,
        conditioning: Conditioning,
        settings: SamplerSettings,
        device: torch.device,
        dtype: torch.dtype,
        hooks: Hooks = SILENT,
    ):
        self.unet, self.device, self.dtype, self.hooks = unet, device, dtype, hooks
        self.batched = settings.batched_guidance
        self.portrait_guidance = ramp_values(settings.portrait_guidance, settings.steps_run)
        self.expression_guidance = ramp_values(settings.expression_guidance, settings.steps_run)
        self.guided_levels = settings.guidance_low, settings.guidance_high
        self.guidance_every, self.deep_every = settings.guidance_every, settings.deep_every
        self.first_guided: int | None = None
        self.frames = conditioning.frames
        self.differences = FrameMemory(self.frames)
        self.deep: dict[tuple[bool, bool], FrameMemory] = {}
        self.scales = [getattr(settings, f"{name}_scale") for name in conditioning.adapters]
        self.added_ids = conditioning.added_ids.cpu()

        height, width = conditioning.image_latents.shape[-2:]
        levels = len(unet.config.block_out_channels)
        self.image_latents = conditioning.image_latents.to(device, dtype)
        self.pose = None if conditioning.pose is None else conditioning.pose.to(device, dtype)
        self.mask = mask_pyramid(conditioning.mask.to(device), (height, width), levels)

        clip = conditioning.clip_token.to(device, dtype)
        self.clip_values = unet.project_clip(torch.cat([torch.zeros_like(clip), clip]))
        self.adapters = [
            (tokens, ProjectedRows(unet, i, tokens.rows, settings.key_value_budget, device, dtype, hooks))
            for i, tokens in enumerate(conditioning.adapters.values())
        ]

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
        """Predict v of a window under guidance.

        Args:
            x: noisy latents of the window, scaled for the network, ``(n, 4, h, w)``.
            sigma: noise level, scalar.
            frames: indices of the window's frames.
            step: number of the step, for guidance that changes over the steps.

        Returns:
            v, ``(n, 4, h, w)``.

        Raises:
            NotEnoughMemoryError: one branch of one window does not fit.
            Cancelled: the caller asked to stop.
        """
        branches = self._branches(step)
        low, high = self.guided_levels
        if not low <= float(sigma) <= high:
            branches = [EVERYTHING]
        if self.guidance_every == 1 or len(branches) == 1 or branches[-1].weight == 0 or not branches[-1].expression:
            return self._guided(x, sigma, frames, step, branches)[0]
        if self.first_guided is None:
            self.first_guided = step
        if (step - self.first_guided) % self.guidance_every:
            kept = self.differences.get(frames)
            if kept is not None:
                guided, _ = self._guided(x, sigma, frames, step, [EVERYTHING])
                return guided + kept.to(guided)
        guided, everything = self._guided(x, sigma, frames, step, branches)
        self.differences.put(step, frames, guided - everything.to(guided))
        return guided

    def _guided(
        self, x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int, branches: list[Branch]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum of `branches`, and the last one alone."""
        if self.batched:
            try:
                predictions = self._predict(x, sigma, frames, step, branches)
                return combine(predictions, branches), predictions[-1]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the except clause, so that the failed call's tensors are freed before the next try.
            self.batched = False
            self.hooks.notice("Out of memory: running the guidance branches one at a time from here on.")
        total = torch.zeros_like(x)
        last = total
        for branch in branches:
            self.hooks.check()
            last = self._alone(x, sigma, frames, step, branch)
            total += combine(last, [branch]).to(total)
        return total, last[0]

    def _alone(
        self, x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int, branch: Branch
    ) -> torch.Tensor:
        """One branch, with the keys and values of the whole clip given up if memory does not suffice."""
        while True:
            try:
                return self._predict(x, sigma, frames, step, [branch])
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if all(projected.kept is None for _, projected in self.adapters):
                    raise NotEnoughMemoryError(
                        f"There is not enough memory on {self.device} for a window of {len(frames)} frames with "
                        f"latents of {x.shape[-1]} x {x.shape[-2]}, even one guidance branch at a time. Choose a "
                        "smaller picture size or window, or another device."
                    ) from error
            # As above: the failed call's tensors go first.
            for _, projected in self.adapters:
                projected.kept = None
            self.hooks.notice(NOT_KEPT)

    def _branches(self, step: int) -> list[Branch]:
        return guidance_branches(self.portrait_guidance[step], self.expression_guidance[step])

    def _pose(self, frames: list[int]) -> torch.Tensor | None:
        return self.pose if self.pose is None or len(self.pose) == 1 else self.pose[frames]

    def _added_ids(self, frames: list[int]) -> torch.Tensor:
        """Mean of the ids of `frames`, in which a frame may stand several times, ``(3,)``."""
        if len(self.added_ids) == 1:
            return self.added_ids[0].to(self.device)
        mean = self.added_ids[frames].double().mean(dim=0).float()
        # The released programs hold the ids in the networks' float16; in bfloat16 they would be far coarser.
        return (mean.half().float() if self.dtype == torch.float16 else mean).to(self.device)

    def _predict(
        self, x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int, branches: list[Branch]
    ) -> torch.Tensor:
        """Predictions of `branches`, ``(branches, n, 4, h, w)``."""
        x = x.to(self.device, self.dtype)
        portrait = torch.tensor([branch.portrait for branch in branches])
        image = self.image_latents * portrait.to(x).reshape(-1, 1, 1, 1)
        sample = torch.cat(
            [
                x.expand(len(branches), *x.shape),
                image[:, None].expand(-1, len(frames), -1, -1, -1),
            ],
            dim=2,
        )
        clip_index = portrait.long()[:, None].expand(-1, len(frames)).to(self.device)
        adapters = []
        for (tokens, projected), scale in zip(self.adapters, self.scales, strict=True):
            index = torch.stack(
                [(tokens.conditional if branch.expression else tokens.unconditional)[frames] for branch in branches]
            )
            key_values, local = projected(index)
            adapters.append(AdapterContext(key_values, local, scale, self.mask))
        context = AttentionContext(self.clip_values, clip_index, tuple(adapters))
        timestep = sigma_to_timestep(sigma).to(self.device)
        added_ids = self._added_ids(frames).expand(len(branches), -1)
        if self.deep_every == 1:
            v, _ = self.unet(sample, timestep, added_ids, context, self._pose(frames))
            return v
        memories = [self._deep_memory(branch) for branch in branches]
        kept = [memory.get(frames) for memory in memories] if step % self.deep_every else [None]
        found = [values for values in kept if values is not None]
        deep = DeepFeatures(torch.cat(found).to(x) if len(found) == len(branches) else None)
        v, _ = self.unet(sample, timestep, added_ids, context, self._pose(frames), deep)
        if deep.values is not None and not found:
            for memory, values in zip(memories, deep.values.chunk(len(branches)), strict=True):
                memory.put(step, frames, values)
        return v

    def _deep_memory(self, branch: Branch) -> FrameMemory:
        """Deep features of the frames in a branch."""
        return self.deep.setdefault((branch.portrait, branch.expression), FrameMemory(self.frames, DEEP_BYTES))


ACTIVATIONS_PER_PIXEL = 30
"""Upper bound of what lives at once in a pass, in multiples of the first block's channels and for one latent pixel: 25
in networks of the released shape, the rest is workspace."""

BRANCHES = 3


def sampling_bytes(
    unet: UNet,
    settings: SamplerSettings,
    window: int,
    latent_size: tuple[int, int],
    token_rows: Iterable[tuple[int, int]],
    dtype: torch.dtype,
) -> int:
    """Upper bound of one window's activations and of the projected tokens, in bytes.

    Args:
        unet: on any device.
        settings: guidance in a batch or not, budget for projected tokens.
        window: frames in the longest window.
        latent_size: height and width.
        token_rows: for each adapter how many distinct rows there are, and how many tokens a row has.
        dtype: in which the network computes.
    """
    height, width = latent_size
    branches = BRANCHES if settings.batched_guidance else 1
    pixels = branches * window * height * width
    activations = pixels * ACTIVATIONS_PER_PIXEL * unet.config.block_out_channels[0]
    per_token = 2 * unet.key_value_channels * dtype.itemsize
    projected = sum(min(rows * tokens * per_token, settings.key_value_budget) for rows, tokens in token_rows)
    return activations * dtype.itemsize + projected
