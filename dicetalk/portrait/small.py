"""Notice of a face that is too small in the network's picture to show anything."""

from dicetalk.portrait.faces import FaceBox
from dicetalk.portrait.prepare import Portrait, Region, crop_region, network_size

SMALL_FACE = 1 / 6
"""Shorter side of a face, as a part of the picture's shorter side, below which a crop is advised. A crop makes it about
1/2, which is what the network was trained on; at 1/6 and 512 pixels the latents of a face are 10 x 10."""


def small_face_notice(portrait: Portrait, way: str) -> str | None:
    """Text for the user where the whole picture is animated and the face in it is small.

    Args:
        portrait: as :func:`dicetalk.portrait.prepare.prepare_portrait` made it.
        way: how the caller's user gets a crop that is pasted back, after "With".

    Returns:
        The notice with the face's size as the network sees it, now and in a crop; `None` where it is large enough or
        cropped already.
    """
    source_height, source_width = portrait.source.shape[:2]
    if portrait.face is None or portrait.crop != (0, 0, source_width, source_height):
        return None
    height, width = portrait.image.shape[-2:]
    face = _size_in(portrait.crop, portrait.face, (width, height))
    if min(face) >= SMALL_FACE * min(width, height):
        return None
    region = crop_region(portrait.face, source_width, source_height)
    cropped_size = network_size(region[2] - region[0], region[3] - region[1], min(width, height))
    cropped = _size_in(region, portrait.face, cropped_size)
    return (
        f"The face has {face[0]} x {face[1]} of the {width} x {height} pixels that the network works on, too few to "
        f"speak or feel with. With {way} it has about {cropped[0]} x {cropped[1]}."
    )


def _size_in(region: Region, face: FaceBox, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of `face` where `region` is resized to `size`."""
    x0, y0, x1, y1 = region
    return round(face.width * size[0] / (x1 - x0)), round(face.height * size[1] / (y1 - y0))
