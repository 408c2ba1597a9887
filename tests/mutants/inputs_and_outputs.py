"""Faults in what the network is given, in what becomes of its latents, and in the nodes."""

from fault import faults_in

PIPELINE = ("tests/unit/test_pipeline.py",)
MODEL = ("tests/golden/test_emotion.py",)
FEATURES = ("tests/golden/test_audio.py", *PIPELINE)
WHISPER = ("tests/unit/test_audio_whisper.py",)
TRACK = ("tests/unit/test_emotion_track.py",)
ALGEBRA = ("tests/unit/test_emotion_algebra.py",)
TIMING = ("tests/unit/test_emotion_algebra_time.py",)
PORTRAIT = ("tests/unit/test_portrait_prepare.py", "tests/golden/test_portrait.py")
PASTE = ("tests/unit/test_portrait_paste.py",)
DECODE = ("tests/unit/test_video_decode.py",)
CLIP = ("tests/unit/test_video_clip.py",)
RIFE = ("tests/unit/test_video_interpolate.py",)
WRITE = ("tests/unit/test_video_write.py",)
PREVIEW = ("tests/unit/test_video_preview.py",)
NODES = ("tests/nodes/test_run.py",)
SAMPLER = ("tests/nodes/test_sampler_values.py",)
KILLS = "tests/unit/test_kills.py"

FAULTS = [
    *faults_in(
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
    *faults_in(
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
    *faults_in(
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
            "between(variances).sqrt() if",
            "between([variance.sqrt() for variance in variances]) if",
        ),
        ("values at 25 fps", "tuple(Keyframe(i / fps, prior)", "tuple(Keyframe(i / (2 * fps), prior)"),
    ),
    *faults_in(
        "dicetalk/emotion/mix.py",
        TRACK,
        (
            "weights act on the raw prior",
            "mu += columns[name] * (priors[name].mu - neutral.mu)",
            "mu += columns[name] * priors[name].mu",
        ),
        (
            "intensity acts twice",
            "shares[known] = intensity * weight",
            "shares[known] = intensity * intensity * weight",
        ),
        ("weights over 1 are refused", "MAX_WEIGHT = 2.0", "MAX_WEIGHT = 1.0"),
        ("neutral's spread is forgotten", "variance += rest * neutral.sigma.square()", "pass"),
    ),
    *faults_in(
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
    *faults_in(
        "dicetalk/emotion/algebra.py",
        TIMING,
        ("drift twice as fast", "_gaussian(time_constant / math.sqrt(2))", "_gaussian(time_constant / 2)"),
        ("smoothing in frames", "_blur(values.mu, seconds * MODEL_FPS)", "_blur(values.mu, seconds)"),
        (
            "samples without the temperature",
            "values.mu + temperature * values.sigma * eps",
            "values.mu + values.sigma * eps",
        ),
    ),
    *faults_in(
        "dicetalk/emotion/bank.py",
        MODEL,
        (
            "keys for values",
            "BankContext(self.fc_k(bank_tokens), self.fc_v(bank_tokens))",
            "BankContext(self.fc_k(bank_tokens), self.fc_k(bank_tokens))",
        ),
    ),
    *faults_in(
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
    *faults_in(
        "dicetalk/portrait/paste.py",
        PASTE,
        ("the edge fades at the picture's border", "fade_in=x0 > 0,", "fade_in=True,"),
        ("no correction of contrast", "(frames[index] - mean) * gain", "(frames[index] - mean)"),
        ("measured inside the face", "still = portrait.mask[0] < 0.5", "still = portrait.mask[0] >= 0.5"),
        ("overshoot is kept", "torch.from_numpy(pixels).clamp_(0, 1)", "torch.from_numpy(pixels)"),
    ),
    *faults_in(
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
    *faults_in(
        "dicetalk/video/clip.py",
        CLIP,
        (
            "the sound's end is cut",
            "math.ceil(samples * exact_fps(fps) / sample_rate)",
            "math.floor(samples * exact_fps(fps) / sample_rate)",
        ),
        ("the first frame is held", "last = chunk[-1:]", "last = chunk[:1]"),
    ),
    *faults_in(
        "dicetalk/video/interpolate.py",
        RIFE,
        ("between a frame and itself", "first = torch.cat([last, second[:-1]])", "first = second"),
        ("padding stays", "[..., :height, :width]", ""),
    ),
    *faults_in(
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
    *faults_in(
        "dicetalk/video/decode.py",
        PREVIEW,
        ("previews without an offset", "(0, 1), value=1.0)", "(0, 1), value=0.0)"),
    ),
    *faults_in(
        "nodes/parameters.py",
        SAMPLER,
        ("the change is the last value", "value = (value, value + change)", "value = (value, change)"),
        (
            "one ramp for both",
            "value = taken.pop(each.input_name)",
            'value = values.get("portrait_guidance", taken.pop(each.input_name))',
        ),
        ("megabytes are a million", "MEGABYTE = 1 << 20", "MEGABYTE = 10**6"),
    ),
    *faults_in(
        "nodes/presets.py",
        SAMPLER,
        (
            "overlap and shift are swapped",
            "own = setting_value(SamplerSettings, values)",
            'own = setting_value(SamplerSettings, values | {"overlap": values["shift"], "shift": values["overlap"]})',
        ),
    ),
    *faults_in(
        "nodes/sampler.py",
        SAMPLER,
        ("latents in the decoder's scale", " / dice.config.vae.scaling_factor", ""),
        (
            "the emotion at its start only",
            "speech.features, track, settings",
            "speech.features, track and type(track).constant(track.keyframes[0].prior), settings",
        ),
    ),
    *faults_in(
        "nodes/wires.py",
        NODES,
        ("an encoded portrait is never forgotten", "if known is None or known[0] != key:", "if known is None:"),
    ),
    *faults_in(
        "nodes/interpolate.py",
        NODES,
        ("the rate doubles once", "fps * 2**doublings", "fps * 2"),
    ),
    *faults_in(
        "dicetalk/unfinished.py",
        (f"{KILLS}::test_what_a_running_program_writes_is_left_alone",),
        ("what is being written is removed", "if _locked(file) and _is_at(file, lock):", "if _is_at(file, lock):"),
        ("what a kill left stays", "if _locked(file) and _is_at(file, lock):", "if False:"),
    ),
    *faults_in(
        "dicetalk/unfinished.py",
        (f"{KILLS}::test_a_folder_has_one_writer",),
        ("a folder has two writers", "if _locked(file) is False:", "if False:"),
    ),
    *faults_in(
        "dicetalk/files.py",
        ("tests/unit/test_command_faults.py::test_a_full_disk",),
        ("a full disk is found after the work", 'trial.write_bytes(b"\\0")', "trial.touch()"),
    ),
    *faults_in(
        "dicetalk/train/prepare/video.py",
        ("tests/unit/test_prepare_video.py",),
        (
            "training hears other speech than generation",
            "as_heard(samples[: frames * SAMPLES_PER_FRAME].copy(), name, hooks.notice)",
            "samples[: frames * SAMPLES_PER_FRAME].copy()",
        ),
    ),
]
