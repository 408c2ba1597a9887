"""One video becomes clips."""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from dicetalk.audio.level import as_heard
from dicetalk.audio.speech import SAMPLES_PER_FRAME
from dicetalk.errors import DiceTalkError, VideoError
from dicetalk.film import Span, frames_between, measure, speech_parts
from dicetalk.hooks import SILENT, Hooks
from dicetalk.portrait.faces import FaceBox, FaceDetector
from dicetalk.settings import FPS
from dicetalk.train.prepare import clip as clips
from dicetalk.train.prepare.crop import LOOK_EVERY, box_in, cut_out, region_of, track_face, unite
from dicetalk.train.prepare.datasets import SkippedVideo, SourceVideo


@dataclass(frozen=True)
class VideoMaker:
    """Makes the clips of a :class:`SourceVideo`.

    Args:
        listen: hears the speech.
        detector: finds the face.
        size: side of the frames in pixels.
        express: sees the expression; clips have no coefficients if none.
    """

    listen: clips.Listen
    detector: FaceDetector
    size: int
    express: clips.Express | None = None

    def __call__(
        self, source: SourceVideo, there: Collection[str] = (), hooks: Hooks = SILENT
    ) -> Iterator[clips.MadeClip | SkippedVideo]:
        """Cut, crop and listen, with one clip in memory. The video is decoded twice: to find the face, and to cut it.

        Args:
            source: the video.
            there: names of clips that need not be made.
            hooks: asked to stop before each search for the face and each clip.

        Yields:
            The missing clips in order; a clip that cannot be made, with the reason.

        Raises:
            VideoError: the video is damaged, too short, or has no pictures or no sound.
            SpeechError: the sound is damaged.
        """
        begin, speech_start, frames = _common_part(source)
        lengths = clips.part_lengths(frames)
        names = clips.part_names(source.name, len(lengths))
        if all(name in there for name in names):
            return
        faces = track_face(frames_between(source.path, begin, frames), self.detector, hooks)
        pictures = frames_between(source.path, begin, frames)
        speeches = speech_parts(source.sound, speech_start, lengths, notice=hooks.notice)
        starts = itertools.accumulate(lengths, initial=0)
        for name, start, length, samples in zip(names, starts, lengths, speeches, strict=False):
            hooks.check()
            part = itertools.islice(pictures, length)
            try:
                if name in there:
                    continue
                # One picture is searched for every five frames; the first look may lie just before the part.
                looks = faces[start // LOOK_EVERY : -(-(start + length) // LOOK_EVERY)]
                yield self._clip(name, source, part, unite(looks), samples, hooks)
            except DiceTalkError as error:
                yield SkippedVideo(name, str(error))
            finally:
                for _ in part:  # the next clip's pictures come after this one's, whatever became of it
                    pass

    def _clip(
        self,
        name: str,
        source: SourceVideo,
        pictures: Iterator[np.ndarray],
        face: FaceBox,
        samples: np.ndarray,
        hooks: Hooks,
    ) -> clips.MadeClip:
        cut: list[np.ndarray] = []
        for picture in pictures:
            if not cut:
                region = region_of(face, picture.shape[1], picture.shape[0])
            cut.append(cut_out(picture, region, self.size))
        frames = min(len(cut), len(samples) // SAMPLES_PER_FRAME)
        if frames < clips.MIN_FRAMES:
            raise VideoError(f"{source.path}: {frames} of the part's frames are there; the rest is damaged or missing.")
        crops = np.stack(cut[:frames])
        # As the network will hear speech when it is used, which comes without offsets and never very quiet.
        speech = self.listen(as_heard(samples[: frames * SAMPLES_PER_FRAME].copy(), name, hooks.notice))
        coefficients = self.express(crops) if self.express else None
        return clips.make(
            name, source.labels, crops, speech, box_in(face, region, self.size), coefficients=coefficients
        )


def _common_part(source: SourceVideo) -> tuple[float, float, int]:
    """Where pictures and sound begin together, on the clocks of their files, and for how many frames both last."""
    seen = measure(source.path, "video")
    heard = measure(source.sound, "audio")
    if source.sound == source.path:
        begin = seen.start
    else:  # two files are taken to start together
        begin, heard = seen.start, Span(seen.start, seen.start + heard.end - heard.start)
    frames = int((min(seen.end, heard.end) - begin) * FPS + 1e-3)
    if frames < clips.MIN_FRAMES:
        raise VideoError(
            f"{source.path}: pictures and sound last for {max(frames, 0) / FPS:.2f} s together; "
            f"at least {clips.MIN_FRAMES / FPS:g} s are needed."
        )
    return begin, begin - heard.start, frames
