"""Draws what the network is given, out of the example portrait and speech; needs matplotlib.

Writes `docs/pictures/stages.png`.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dicetalk.audio.speech import load_speech
from dicetalk.audio.whisper import log_mel_chunks
from dicetalk.denoise.windows import padding, window_schedule
from dicetalk.portrait.prepare import prepare_portrait
from dicetalk.portrait.read import read_picture

HERE = Path(__file__).parent
PICTURE = HERE.parent / "docs" / "pictures" / "stages.png"


def main() -> None:
    """Draw the four panels."""
    portrait = prepare_portrait(read_picture(HERE / "portrait.jpg"), crop=True)
    speech = load_speech(HERE / "speech.wav")
    plt.rcParams |= {"font.size": 9, "axes.titlesize": 10, "figure.facecolor": "white"}
    figure, (source, mask, mel, windows) = plt.subplots(
        1, 4, figsize=(14, 3.5), width_ratios=[1, 1, 1.6, 1.6], layout="constrained"
    )

    face, (x0, y0, x1, y1) = portrait.face, portrait.crop
    source.imshow(portrait.source)
    source.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="white", linestyle="--"))
    source.add_patch(plt.Rectangle((face.x, face.y), face.width, face.height, fill=False, color="#ffb000", linewidth=2))
    if face.landmarks is not None:
        source.scatter(*np.array(face.landmarks).T, s=8, color="#ffb000")
    source.set_title("portrait: face and crop")

    picture = (portrait.image.permute(1, 2, 0).numpy() + 1) / 2
    shade = 0.35 + 0.65 * portrait.mask.permute(1, 2, 0).numpy()
    mask.imshow(picture * shade)
    mask.set_title("what may move")
    for axes in (source, mask):
        axes.axis("off")

    chunks = list(log_mel_chunks(speech.samples))
    frames = int(speech.seconds * 100)
    mel.imshow(
        np.asarray(chunks[0])[..., :frames].squeeze(), origin="lower", aspect="auto", extent=(0, speech.seconds, 0, 80)
    )
    mel.set(title="speech as Whisper hears it", xlabel="seconds", ylabel="mel band")

    steps, window, overlap, shift = 25, 25, 0, 7
    total = speech.frames + padding("reference", window)
    schedule = window_schedule("reference", total, window, overlap, shift)
    grid = np.zeros((steps, total))
    for step in range(steps):
        for number, members in enumerate(schedule(step)):
            grid[step, members] = number + 1
    windows.imshow(grid, aspect="auto", cmap="Set2", interpolation="nearest")
    windows.axvline(speech.frames - 0.5, color="black", linewidth=1)
    windows.text(speech.frames + 1, steps - 1.5, "padding", fontsize=8)
    windows.set(title="frames denoised together", xlabel="frame", ylabel="step")
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
