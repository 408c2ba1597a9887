"""Faults from the pipeline to the UNet."""

from fault import faults_in

PIPELINE = ("tests/unit/test_pipeline.py",)
DENOISE = ("tests/unit/test_denoise.py",)
BOTH = (*DENOISE, *PIPELINE)
UNET = ("tests/golden/test_unet.py",)
MOTION = ("tests/unit/test_motion.py", "tests/golden/test_motion.py")
RENDER = ("tests/unit/test_pipeline_render.py",)

FAULTS = [
    *faults_in(
        "dicetalk/adapters.py",
        PIPELINE,
        ("the emotion is read at 25 fps", "emotion.priors(frames, FPS)", "emotion.priors(frames, 2 * FPS)"),
        (
            "emotions one frame late",
            "FrameTokens(rows, 1 + index,",
            "FrameTokens(rows, 1 + index.roll(1),",
        ),
        (
            "emotions one frame early",
            "FrameTokens(rows, 1 + index,",
            "FrameTokens(rows, 1 + index.roll(-1),",
        ),
        (
            "no emotion instead of the first",
            "FrameTokens(rows, 1 + index,",
            "FrameTokens(rows, index,",
        ),
        (
            "speech one frame late",
            "FrameTokens(rows, 1 + torch.arange(frames),",
            "FrameTokens(rows, torch.arange(frames),",
        ),
        ("the window before silence is heard as silence", "windows * (rows > 0)", "windows * (rows > 1)"),
        ("silence hears the first frame", "windows = windows * (rows > 0).to(windows)[:, None, None, None]", "pass"),
        (
            "no emotion is the first prior",
            "torch.cat([torch.zeros_like(self.priors[:1]), self.priors])",
            "torch.cat([self.priors[:1], self.priors])",
        ),
    ),
    *faults_in(
        "dicetalk/pipeline.py",
        PIPELINE,
        (
            "strength cuts the low noise levels",
            "levels[settings.steps - settings.steps_run :]",
            "levels[: settings.steps_run + 1]",
        ),
        (
            "strength is one step weaker",
            "levels[settings.steps - settings.steps_run :]",
            "levels[settings.steps - settings.steps_run + 1 :]",
        ),
        (
            "tight clips are padded",
            "total = frames + padding(settings.schedule, settings.window)",
            'total = frames + padding("reference", settings.window)',
        ),
        ("nothing is padded", "total = frames + padding(settings.schedule, settings.window)", "total = frames"),
        ("windows do not move", "settings.overlap, settings.shift)", "settings.overlap, 0)"),
        ("windows do not overlap", "settings.window, settings.overlap,", "settings.window, 0,"),
        (
            "the portrait is not under the noise",
            "x.mul_(sigmas[0]).add_(conditioning.start_latents)",
            "x.mul_(sigmas[0])",
        ),
        (
            "the unscaled portrait is under the noise",
            "add_(conditioning.start_latents)",
            "add_(conditioning.image_latents)",
        ),
        ("the caller's noise is changed", "if noise is None else noise.clone()", "if noise is None else noise"),
        (
            "noise levels of the release for every model",
            ", model.config.sampling.sigma_min, model.config.sampling.sigma_max)",
            ")",
        ),
        ("the seed is not used", "draw_noise(settings.seed,", "draw_noise(0,"),
    ),
    *faults_in(
        "dicetalk/motion/ids.py",
        MOTION,
        (
            "buckets are swapped",
            'BUCKETS = ("motion_bucket", "expression_bucket")',
            'BUCKETS = ("expression_bucket", "motion_bucket")',
        ),
        (
            "the network is given 25 fps",
            "torch.full((features.frames,), FPS)",
            "torch.full((features.frames,), 2 * FPS)",
        ),
        ("the amount has no influence", ", residency) * settings.motion_amount", ", residency)"),
        ("the prediction of the other bucket", "predicted[:, place]", "predicted[:, 1 - place]"),
        ("a curve starts again", "*[values[-1]] * -unused", "*[values[0]] * -unused"),
        (
            "speech that is too short is not refused early",
            "        features.last_windows(network.config.window)\n",
            "        pass\n",
        ),
    ),
    *faults_in(
        "dicetalk/audio/features.py",
        MOTION,
        (
            "as many states before a frame as after",
            "before, after = states[: window // 2 - 1]",
            "before, after = states[: window // 2]",
        ),
        ("the first layer's states", "[STEPS_BEFORE:-STEPS_AFTER, -1]", "[STEPS_BEFORE:-STEPS_AFTER, 0]"),
    ),
    *faults_in(
        "dicetalk/pipeline.py",
        RENDER,
        ("the decoder's chunk is always 10", "chunk=chunk,", "chunk=10,"),
        (
            "the padding is shown",
            "model.vae, latents.values, latents.frames, chunk",
            "model.vae, latents.values, len(latents.values), chunk",
        ),
        ("the rate stays after interpolation", "frames=frames, fps=2 * FPS)", "frames=frames, fps=FPS)"),
        ("one frame too many is announced", "frames = 2 * clip.frames - 1", "frames = 2 * clip.frames"),
        ("interpolation cannot be switched off", "if not interpolate or fps == FPS:", "if fps == FPS:"),
    ),
    *faults_in(
        "dicetalk/denoise/guided.py",
        ("tests/unit/test_motion.py",),
        (
            "a window has its first frame's buckets",
            "self.added_ids[frames].double()",
            "self.added_ids[frames[:1]].double()",
        ),
        (
            "a repeated frame counts once",
            "self.added_ids[frames].double()",
            "self.added_ids[sorted({*frames})].double()",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/guided.py",
        PIPELINE,
        (
            "adapter scales are swapped",
            'f"{name}_scale") for name in conditioning.adapters]',
            'f"{name}_scale") for name in reversed(conditioning.adapters)]',
        ),
        (
            "the emotion scale is for both",
            'f"{name}_scale") for name in conditioning.adapters]',
            '"emotion_scale") for name in conditioning.adapters]',
        ),
        (
            "adapter scales are forgotten",
            "AdapterContext(key_values, local, scale, self.mask)",
            "AdapterContext(key_values, local, 1.0, self.mask)",
        ),
        (
            "adapter scales are 1 or 0",
            "AdapterContext(key_values, local, scale, self.mask)",
            "AdapterContext(key_values, local, float(scale > 0), self.mask)",
        ),
        (
            "adapter scales are squared",
            "AdapterContext(key_values, local, scale, self.mask)",
            "AdapterContext(key_values, local, scale**2, self.mask)",
        ),
        (
            "the mask is left out",
            "AdapterContext(key_values, local, scale, self.mask)",
            "AdapterContext(key_values, local, scale)",
        ),
        (
            "guidance ramps use all steps",
            "ramp_values(settings.portrait_guidance, settings.steps_run)",
            "ramp_values(settings.portrait_guidance, settings.steps)",
        ),
        (
            "one guidance ramp for both",
            "ramp_values(settings.expression_guidance, settings.steps_run)",
            "ramp_values(settings.portrait_guidance, settings.steps_run)",
        ),
        (
            "every branch sees the portrait",
            "image = self.image_latents * portrait.to(x).reshape(-1, 1, 1, 1)",
            "image = self.image_latents.expand(len(portrait), -1, -1, -1)",
        ),
        (
            "every branch hears the speech",
            "(tokens.conditional if branch.expression else tokens.unconditional)",
            "(tokens.conditional)",
        ),
        (
            "the first frames' tokens in every window",
            "tokens.unconditional)[frames]",
            "tokens.unconditional)[: len(frames)]",
        ),
        (
            "the clip token in every branch",
            "portrait.long()[:, None].expand(-1, len(frames)).to(self.device)",
            "torch.ones_like(portrait).long()[:, None].expand(-1, len(frames)).to(self.device)",
        ),
        (
            "branches alone are not weighted",
            "total += self._alone(x, sigma, frames, branch).to(total)",
            "total = self._alone(x, sigma, frames, branch).to(total)",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/guided.py",
        DENOISE,
        ("expression against nothing", "weight=portrait_scale - expression_scale", "weight=portrait_scale"),
        ("weights of 1 are left out", "if branch.weight != 0", "if branch.weight != 1"),
        (
            "branches of weight zero are computed",
            "return [branch for branch in branches if branch.weight != 0]",
            "return branches",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/windows.py",
        DENOISE,
        ("extra tight windows", "if not inner or starts[i + 1] - kept[-1] > window - overlap:", "if True:"),
        (
            "a tight window too few",
            "starts[i + 1] - kept[-1] > window - overlap:",
            "starts[i + 1] - kept[-1] > window - overlap + 1:",
        ),
        (
            "tight windows beyond the end",
            "range(place, min(place + window, total))",
            "range(place, min(place + window, total + 1))",
        ),
        (
            "extra windows where one is enough",
            "starts[i + 1] - kept[-1] > window - overlap:",
            "starts[i + 1] - kept[-1] >= window - overlap:",
        ),
        ("no padding for the ring", 'return window if name == "reference" else 0', "return 0"),
    ),
    *faults_in(
        "dicetalk/denoise/windows.py",
        PIPELINE,
        ("the ring turns the other way", "(start + place + i) % total", "(place + i - start) % total"),
        (
            "the ring turns without end",
            "_ring(-(step * shift % window), total",
            "_ring(-(step * shift), total",
        ),
        ("the ring's windows do not overlap", "range(0, total, window - overlap)]", "range(0, total, window)]"),
    ),
    *faults_in(
        "dicetalk/denoise/sampler.py",
        BOTH,
        ("overlaps are summed", "v /= covered", "pass"),
        ("the last window wins", "v.index_add_(0, places, predicted.to(v))", "v[frames] = predicted.to(v)"),
        ("the network sees unscaled latents", "predict(scale_input(x[frames], sigmas[step])", "predict((x[frames])"),
        ("a step too far", "part += slope * (sigma_next - sigma)", "part += slope * -sigma"),
        ("infinite values go on", "if not all(part.isfinite().all()", "if not all(True"),
        (
            "cancelling is asked once a step",
            "            hooks.check()\n",
            "            hooks.check() if frames is windows[0] else None\n",
        ),
        (
            "the preview is the noisy clip",
            'hooks.report("sample", done, total, v)',
            'hooks.report("sample", done, total, x)',
        ),
        (
            "steps are not cut in parts",
            "UPDATE_FRAMES = 64",
            "UPDATE_FRAMES = 65",
            "memory of a step only; every frame is computed alone",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/sampler.py",
        DENOISE,
        ("noise levels of another bend", "rho: float = 7.0", "rho: float = 6.0"),
        ("the last level is not zero", "sigmas.new_zeros(1)", "sigmas[-1:]"),
        ("the timestep is doubled", "0.25 * sigma.log()", "0.5 * sigma.log()"),
        ("c_out without its sign", "c_out = -sigma", "c_out = sigma"),
    ),
    *faults_in(
        "dicetalk/settings.py",
        BOTH,
        ("a step is lost to rounding", "self.noise_strength + 1e-9)", "self.noise_strength)"),
        (
            "ramps end a step early",
            "step / (steps - 1) for step in range(steps)]",
            "step / steps for step in range(steps)]",
        ),
        ("ramps run backwards", "[first + (last - first) * step", "[last + (first - last) * step"),
        (
            "a constant ramp is shortcut",
            "if first == last or steps == 1:",
            "if steps == 1:",
            "the sum below gives the same numbers",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/attention.py",
        PIPELINE,
        (
            "spatial attention is not masked",
            "if size is None or adapter.mask is None:",
            "if True:",
        ),
        (
            "the first frame's tokens for the window",
            "return projected[index].mean(dim=1)",
            "return projected[index][:, 0]",
        ),
        (
            "the scale is not used outside the mask",
            "torch.add(attended, seen, alpha=adapter.scale)",
            "torch.add(attended, seen)",
        ),
        ("the scale is not used in the mask", ", value=adapter.scale)", ")"),
        (
            "weak adapters are skipped",
            "[a for a in context.adapters if a.scale != 0]",
            "[a for a in context.adapters if a.scale >= 0.5]",
        ),
        (
            "scale zero is computed",
            "[a for a in context.adapters if a.scale != 0]",
            "list(context.adapters)",
            "the term is zero then; that it is not computed is tested in test_unet",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/tokens.py",
        PIPELINE,
        (
            "rows of a window in another order",
            "return self._project(rows), local.to(self.device)",
            "return self._project(rows.flip(0)), local.to(self.device)",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/attention.py",
        UNET,
        ("masks are resized by area", 'mode="bicubic")', 'mode="area")'),
        (
            "mask levels are cut down",
            "(height + 1) // 2, (width + 1) // 2",
            "height // 2, width // 2",
            "sides are multiples of 8, and the levels after an odd one are never attended to",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/latents.py",
        ("tests/unit/test_pipeline.py",),
        (
            "the clip's noise is drawn first",
            "    portrait = torch.randn(1, 3, height, width, generator=generator)\n",
            "    portrait = torch.zeros(1, 3, height, width)\n",
        ),
    ),
    *faults_in(
        "dicetalk/denoise/conditioning.py",
        ("tests/unit/test_pipeline.py",),
        (
            "the padding hears the last frame",
            "rest = tokens.unconditional[:1].expand(frames)",
            "rest = tokens.conditional[-1:].expand(frames)",
        ),
    ),
]
