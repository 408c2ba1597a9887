"""Faults put in on purpose, and the tests that have to notice them.

A fault whose `equivalent` is filled changes nothing that anyone could see, for the reason given there; its tests must
stay green.
"""

from dataclasses import dataclass

PIPELINE = ("tests/unit/test_pipeline.py",)
DENOISE = ("tests/unit/test_denoise.py",)
BOTH = (*DENOISE, *PIPELINE)
UNET = ("tests/golden/test_unet.py",)
MODEL = ("tests/golden/test_emotion.py",)
FEATURES = ("tests/golden/test_audio.py", *PIPELINE)
WHISPER = ("tests/unit/test_audio_whisper.py",)
TRACK = ("tests/unit/test_emotion_track.py",)
ALGEBRA = ("tests/unit/test_emotion_algebra.py",)
TIMING = ("tests/unit/test_emotion_timing.py",)
PORTRAIT = ("tests/unit/test_portrait_prepare.py", "tests/golden/test_portrait.py")
PASTE = ("tests/unit/test_portrait_paste.py",)
FACES = ("tests/unit/test_portrait_faces.py",)
DECODE = ("tests/unit/test_video_decode.py",)
CLIP = ("tests/unit/test_video_clip.py",)
RIFE = ("tests/unit/test_video_interpolate.py",)
WRITE = ("tests/unit/test_video_write.py",)
PREVIEW = ("tests/unit/test_video_preview.py",)
RENDER = ("tests/unit/test_pipeline_render.py",)
NODES = ("tests/nodes/test_run.py",)
SAMPLER = ("tests/nodes/test_sampler_values.py",)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: what goes wrong.
        file: in the repository.
        before: a place that is in the file exactly once.
        after: what stands there instead.
        tests: files that are run.
        equivalent: why nobody can see it; empty if somebody must.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    equivalent: str = ""


def _in(file: str, tests: tuple[str, ...], *places: tuple[str, ...]) -> list[Fault]:
    return [Fault(name, file, before, after, tests, *rest) for name, before, after, *rest in places]


FAULTS = [
    *_in(
        "dicetalk/pipeline.py",
        PIPELINE,
        ("the emotion is read at 25 fps", "emotion.priors(frames, FPS)", "emotion.priors(frames, 2 * FPS)"),
        (
            "emotions one frame late",
            "FrameTokens(feeling, 1 + prior_index,",
            "FrameTokens(feeling, 1 + prior_index.roll(1),",
        ),
        (
            "emotions one frame early",
            "FrameTokens(feeling, 1 + prior_index,",
            "FrameTokens(feeling, 1 + prior_index.roll(-1),",
        ),
        (
            "no emotion instead of the first",
            "FrameTokens(feeling, 1 + prior_index,",
            "FrameTokens(feeling, prior_index,",
        ),
        (
            "speech one frame late",
            "FrameTokens(audio, 1 + torch.arange(frames),",
            "FrameTokens(audio, torch.arange(frames),",
        ),
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
        ("the window before silence is heard as silence", "windows * (rows > 0)", "windows * (rows > 1)"),
        ("silence hears the first frame", "windows = windows * (rows > 0).to(windows)[:, None, None, None]", "pass"),
        (
            "no emotion is the first prior",
            "torch.cat([torch.zeros_like(self.priors[:1]), self.priors])",
            "torch.cat([self.priors[:1], self.priors])",
        ),
        ("the seed is not used", "draw_noise(settings.seed,", "draw_noise(0,"),
    ),
    *_in(
        "dicetalk/pipeline.py",
        RENDER,
        ("the decoder's chunk is always 10", "chunk=decode_chunk,", "chunk=10,"),
        (
            "the padding is shown",
            "model.vae, latents.values, latents.frames, chunk",
            "model.vae, latents.values, len(latents.values), chunk",
        ),
        ("the rate stays after interpolation", "frames=frames, fps=2 * FPS)", "frames=frames, fps=FPS)"),
        ("one frame too many is announced", "frames = 2 * clip.frames - 1", "frames = 2 * clip.frames"),
        ("interpolation cannot be switched off", "if not interpolate:", "if False:"),
    ),
    *_in(
        "dicetalk/denoise/guided.py",
        PIPELINE,
        (
            "adapter scales are swapped",
            "self.scales = settings.audio_scale, settings.emotion_scale",
            "self.scales = settings.emotion_scale, settings.audio_scale",
        ),
        (
            "the emotion scale is for both",
            "self.scales = settings.audio_scale, settings.emotion_scale",
            "self.scales = settings.emotion_scale, settings.emotion_scale",
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
            "buckets are swapped",
            "[FPS, settings.motion_bucket, settings.expression_bucket]",
            "[FPS, settings.expression_bucket, settings.motion_bucket]",
        ),
        ("the network is told 25 fps", "torch.tensor([FPS, settings", "torch.tensor([2 * FPS, settings"),
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
    *_in(
        "dicetalk/denoise/guidance.py",
        DENOISE,
        ("expression against nothing", "weight=portrait_scale - expression_scale", "weight=portrait_scale"),
        ("weights of 1 are left out", "if branch.weight != 0", "if branch.weight != 1"),
        (
            "branches of weight zero are computed",
            "return [branch for branch in branches if branch.weight != 0]",
            "return branches",
        ),
    ),
    *_in(
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
    *_in(
        "dicetalk/denoise/windows.py",
        PIPELINE,
        ("the ring turns the other way", "(start + place + i) % total", "(place + i - start) % total"),
        (
            "the ring turns without end",
            "    start = -(step * shift % window)\n    return",
            "    start = -(step * shift)\n    return",
        ),
        ("the ring's windows do not overlap", "range(0, total, window - overlap)]", "range(0, total, window)]"),
    ),
    *_in(
        "dicetalk/denoise/sampler.py",
        BOTH,
        ("overlaps are summed", "v /= covered", "pass"),
        ("the last window wins", "v[frames] += predict(", "v[frames] = predict("),
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
    *_in(
        "dicetalk/denoise/schedule.py",
        DENOISE,
        ("noise levels of another bend", "rho: float = 7.0", "rho: float = 6.0"),
        ("the last level is not zero", "sigmas.new_zeros(1)", "sigmas[-1:]"),
        ("the timestep is doubled", "0.25 * sigma.log()", "0.5 * sigma.log()"),
        ("c_out without its sign", "c_out = -sigma", "c_out = sigma"),
    ),
    *_in(
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
    *_in(
        "dicetalk/denoise/attention.py",
        PIPELINE,
        (
            "spatial attention is not masked",
            "return attended if adapter.mask is None else attended * adapter.mask[size].to(attended)",
            "return attended",
        ),
        (
            "the first frame's tokens for the window",
            "return projected[index].mean(dim=1)",
            "return projected[index][:, 0]",
        ),
        ("scales are added", "attended + adapter.scale * masked(", "attended + adapter.scale + masked("),
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
    *_in(
        "dicetalk/denoise/tokens.py",
        PIPELINE,
        (
            "rows of a window in another order",
            "return self._project(rows), local.to(self.device)",
            "return self._project(rows.flip(0)), local.to(self.device)",
        ),
    ),
    *_in(
        "dicetalk/denoise/context.py",
        UNET,
        ("masks are resized by area", 'mode="bicubic")', 'mode="area")'),
        (
            "mask levels are cut down",
            "(height + 1) // 2, (width + 1) // 2",
            "height // 2, width // 2",
            "sides are multiples of 8, and the levels after an odd one are never attended to",
        ),
    ),
    *_in(
        "dicetalk/conditioning.py",
        ("tests/unit/test_pipeline.py",),
        (
            "the clip's noise is drawn first",
            "    portrait = torch.randn(1, 3, height, width, generator=generator)\n",
            "    portrait = torch.zeros(1, 3, height, width)\n",
        ),
        (
            "the padding hears the last frame",
            "rest = tokens.unconditional[:1].expand(frames)",
            "rest = tokens.conditional[-1:].expand(frames)",
        ),
    ),
    *_in(
        "dicetalk/audio/features.py",
        FEATURES,
        ("speech four steps early", "STEPS_BEFORE, STEPS_AFTER = 4, 6", "STEPS_BEFORE, STEPS_AFTER = 0, 10"),
        (
            "frames hear one step late",
            "frame_windows(self.states)[: self.frames][index]",
            "frame_windows(self.states[1:])[: self.frames][index]",
        ),
        ("speech at 10 frames a second", "STEPS_PER_FRAME = 4", "STEPS_PER_FRAME = 5"),
        (
            "chunks overwrite each other",
            "states[STEPS_BEFORE + filled :][: len(chunk)] = chunk",
            "states[STEPS_BEFORE:][: len(chunk)] = chunk",
        ),
    ),
    *_in(
        "dicetalk/audio/whisper.py",
        (*WHISPER, "tests/golden/test_audio.py"),
        (
            "the last state is not normalised",
            "(*output.hidden_states[:-1], output.last_hidden_state)",
            "(*output.hidden_states[1:], output.last_hidden_state)",
        ),
        (
            "a frame too many",
            "SpeechFeatures(joined, len(samples) // SAMPLES_PER_FRAME,",
            "SpeechFeatures(joined, -(-len(samples) // SAMPLES_PER_FRAME),",
        ),
        ("chunks of 20 s", "CHUNK_SAMPLES = 480_000", "CHUNK_SAMPLES = 320_000"),
    ),
    *_in(
        "dicetalk/emotion/track.py",
        TRACK,
        ("frames are read one later", "self._blend(i / fps, times, same)", "self._blend((i + 1) / fps, times, same)"),
        (
            "easing of the keyframe that comes",
            "EASINGS[self.keyframes[i].easing]",
            "EASINGS[self.keyframes[i + 1].easing]",
        ),
        ("smooth is not smooth", "t * t * (3 - 2 * t)", "t * t * (2 - t)"),
        ("ease-in is ease-out", '"ease-in": lambda t: t * t', '"ease-in": lambda t: t * (2 - t)'),
        (
            "spread moves as the deviation",
            "Gaussians(between([prior.mu for prior in priors]), variance.sqrt())",
            "Gaussians(between([prior.mu for prior in priors]), between([prior.sigma for prior in priors]))",
        ),
        ("values at 25 fps", "tuple(Keyframe(i / fps, prior)", "tuple(Keyframe(i / (2 * fps), prior)"),
    ),
    *_in(
        "dicetalk/emotion/mix.py",
        TRACK,
        ("weights act on the raw prior", "mu += share * (prior.mu - neutral.mu)", "mu += share * prior.mu"),
        ("intensity acts twice", "share = intensity * weight", "share = intensity * intensity * weight"),
        ("weights over 1 are refused", "MAX_WEIGHT = 2.0", "MAX_WEIGHT = 1.0"),
        ("neutral's spread is forgotten", "variance += rest * neutral.sigma.square()", "pass"),
    ),
    *_in(
        "dicetalk/emotion/algebra.py",
        ALGEBRA,
        ("the second track is not taken to neutral", "mu + weights * (values.mu - base)", "mu + weights * values.mu"),
        (
            "through neutral at half strength",
            "(2 * way - 1).clamp(min=0), last.sigma",
            "(way - 1).clamp(min=0), last.sigma",
        ),
        (
            "the limit is not kept",
            "factor = (radius / _distances(values.mu, neutral).clamp(min=1e-12)).clamp(max=1)",
            "factor = torch.ones(1)",
        ),
        ("the sphere is straight", "torch.where(defined, length * turned, straight)", "straight"),
    ),
    *_in(
        "dicetalk/emotion/timing.py",
        TIMING,
        ("drift twice as fast", "_gaussian(time_constant / math.sqrt(2))", "_gaussian(time_constant / 2)"),
        ("smoothing in frames", "_blur(values.mu, seconds * MODEL_FPS)", "_blur(values.mu, seconds)"),
        (
            "samples without the temperature",
            "values.mu + temperature * values.sigma * eps",
            "values.mu + values.sigma * eps",
        ),
    ),
    *_in(
        "dicetalk/emotion/model.py",
        MODEL,
        (
            "keys for values",
            "BankContext(self.fc_k(bank_tokens), self.fc_v(bank_tokens))",
            "BankContext(self.fc_k(bank_tokens), self.fc_k(bank_tokens))",
        ),
    ),
    *_in(
        "dicetalk/portrait/prepare.py",
        PORTRAIT,
        ("mask off its centre", "int(face.x - x0 + face.width / 2)", "int(face.x - x0)"),
        ("crop away from the face", "centre - side / 2, low", "low, low"),
        ("picture in 0..1", "/ 255 * 2 - 1", "/ 255"),
        ("the mask does not move with the crop", "int(face.y - y0 + face.height / 2)", "int(face.y + face.height / 2)"),
        (
            "red and blue means are swapped",
            "torch.tensor(CLIP_MEAN)[:, None, None]",
            "torch.tensor(CLIP_MEAN[::-1])[:, None, None]",
        ),
    ),
    *_in(
        "dicetalk/portrait/paste.py",
        PASTE,
        ("the edge fades at the picture's border", "fade_in=x0 > 0,", "fade_in=True,"),
        ("no correction of contrast", "(frames[index] - mean) * gain", "(frames[index] - mean)"),
        ("measured inside the face", "still = portrait.mask[0] < 0.5", "still = portrait.mask[0] >= 0.5"),
        ("overshoot is kept", "torch.from_numpy(pixels).clamp_(0, 1)", "torch.from_numpy(pixels)"),
    ),
    *_in(
        "dicetalk/video/decode.py",
        DECODE,
        ("the scaling factor is forgotten", " / vae.config.scaling_factor", ""),
        (
            "the padding is not read",
            "latents[start : start + chunk], residency)",
            "latents[start : min(start + chunk, frames)], residency)",
        ),
        ("pictures are not clamped", "yield pictures.clamp_(0, 1)", "yield pictures"),
    ),
    *_in(
        "dicetalk/video/clip.py",
        CLIP,
        (
            "the sound's end is cut",
            "math.ceil(samples * exact_fps(fps) / sample_rate)",
            "math.floor(samples * exact_fps(fps) / sample_rate)",
        ),
        ("the first frame is held", "last = chunk[-1:]", "last = chunk[:1]"),
    ),
    *_in(
        "dicetalk/video/interpolate.py",
        RIFE,
        ("between a frame and itself", "first = torch.cat([last, second[:-1]])", "first = second"),
        ("padding stays", "[..., :height, :width]", ""),
    ),
    *_in(
        "dicetalk/video/colour.py",
        WRITE,
        ("full range", "y = 16 + 219 * luma", "y = 255 * luma"),
        (
            "chroma planes are swapped",
            "np.concatenate([y.ravel(), u.ravel(), v.ravel()])",
            "np.concatenate([y.ravel(), v.ravel(), u.ravel()])",
        ),
        ("BT.601", "KR, KB = 0.2126, 0.0722", "KR, KB = 0.299, 0.114"),
    ),
    *_in(
        "dicetalk/video/preview.py",
        PREVIEW,
        ("previews without an offset", "(0, 1), value=1.0)", "(0, 1), value=0.0)"),
    ),
    *_in(
        "nodes/presets.py",
        SAMPLER,
        (
            "the change is the last value",
            "(first, first + change) if change else first",
            "(first, change) if change else first",
        ),
        (
            "one ramp for both",
            "expression_guidance=_ramp(expression_guidance, expression_guidance_change)",
            "expression_guidance=_ramp(expression_guidance, portrait_guidance_change)",
        ),
        ("megabytes are a million", "MEGABYTE = 1 << 20", "MEGABYTE = 10**6"),
        (
            "overlap and shift are swapped",
            "        overlap=overlap,\n        shift=shift,",
            "        overlap=shift,\n        shift=overlap,",
        ),
    ),
    *_in(
        "nodes/sampler.py",
        SAMPLER,
        ("latents in the decoder's scale", " / dice.config.vae.scaling_factor", ""),
        (
            "the emotion at its start only",
            "emotion.track, settings",
            "type(emotion.track).constant(emotion.track.keyframes[0].prior), settings",
        ),
    ),
    *_in(
        "nodes/wires.py",
        NODES,
        ("an encoded portrait is never forgotten", "if known is None or known[0] != key:", "if known is None:"),
    ),
    *_in(
        "nodes/interpolate.py",
        NODES,
        ("the rate doubles once", "fps * 2**doublings", "fps * 2"),
    ),
]
"""All faults."""
