"""Notices of a face that is too small, blown up, cut off by the border, or one of several."""

from dicetalk.portrait.faces import FaceBox
from dicetalk.portrait.prepare import Portrait, Region, crop_region, network_size

SMALL_FACE = 1 / 6
"""Shorter side of a face, as a part of the picture's shorter side, below which a crop is advised. A crop makes it about
1/2, which is what the network was trained on; at 1/6 and 512 pixels the latents of a face are 10 x 10."""

BLOWN_UP = 4.0
"""A face that is enlarged by more has no detail of its own: the network works on blur."""

WHOLE_FACE = 0.9
"""Part of a face's box that lies in the animated part, below which the face is cut off. Boxes are a little generous."""


LEAST_ROOM = 0.05
"""Between a face and the border, as a part of the face's size; detectors put a face that is cut off this near to it."""


def face_notices(portrait: Portrait, crop_way: str, index_way: str) -> list[str]:
    """Everything about a portrait's face that its user should know.

    Args:
        portrait: as :func:`dicetalk.portrait.prepare.prepare_portrait` made it.
        crop_way: how the caller's user gets a crop that is pasted back, after "With".
        index_way: how another face is chosen, after "with".
    """
    found = (
        other_faces_notice(portrait, index_way),
        cut_off_notice(portrait),
        small_face_notice(portrait, crop_way) or blown_up_notice(portrait),
    )
    return [text for text in found if text is not None]


def small_face_notice(portrait: Portrait, way: str) -> str | None:
    """Text for the user where the whole picture is animated and the face in it is small.

    Args:
        portrait: as for :func:`face_notices`.
        way: how the caller's user gets a crop that is pasted back, after "With".

    Returns:
        The notice with the face's size as the network sees it, now and in a crop; `None` where it is large enough or
        cropped already.
    """
    face = portrait.face
    if face is None or portrait.crop != _whole(portrait):
        return None
    source_height, source_width = portrait.source.shape[:2]
    height, width = portrait.image.shape[-2:]
    now = _size_in(portrait.crop, face, (width, height))
    if min(now) >= SMALL_FACE * min(width, height):
        return None
    region = crop_region(face, source_width, source_height)
    cropped_size = network_size(region[2] - region[0], region[3] - region[1], min(width, height))
    cropped = _size_in(region, face, cropped_size)
    blur = ""
    if cropped[0] > BLOWN_UP * face.width:
        blur = (
            f" The picture itself has no more than {face.width:.0f} x {face.height:.0f} of it, so that a picture with "
            "a larger face becomes sharper."
        )
    return (
        f"The face has {now[0]} x {now[1]} of the {width} x {height} pixels that the network works on, too few to "
        f"speak or feel with. With {way} it has about {cropped[0]} x {cropped[1]}.{blur}"
    )


def blown_up_notice(portrait: Portrait) -> str | None:
    """Text for the user where the face has few pixels and is enlarged for the network; `None` if it has enough."""
    if portrait.face is None:
        return None
    height, width = portrait.image.shape[-2:]
    shown = _size_in(portrait.crop, portrait.face, (width, height))
    if shown[0] <= BLOWN_UP * portrait.face.width:
        return None
    return (
        f"The face has {portrait.face.width:.0f} x {portrait.face.height:.0f} pixels in the picture and is enlarged to "
        f"{shown[0]} x {shown[1]}: it stays blurred. Take a picture with a larger face."
    )


def cut_off_notice(portrait: Portrait) -> str | None:
    """Text for the user where the picture's border cuts the face off, or seems to; `None` where there is room."""
    face = portrait.face
    if face is None:
        return None
    x0, y0, x1, y1 = portrait.crop
    across = min(face.x + face.width, x1) - max(face.x, x0)
    down = min(face.y + face.height, y1) - max(face.y, y0)
    seen = max(across, 0) * max(down, 0) / face.area
    if seen < WHOLE_FACE:
        return (
            f"{seen:.0%} of the face ({_described(face)}) lies in the part that is animated; the picture's border cuts "
            "the rest off. Take a picture that shows the whole face."
        )
    height, width = portrait.source.shape[:2]
    across, down = min(face.x, width - face.x - face.width), min(face.y, height - face.y - face.height)
    if across > LEAST_ROOM * face.width and down > LEAST_ROOM * face.height:
        return None
    return (
        f"The face ({_described(face)}) reaches the picture's border, which may cut it off. Take a picture that shows "
        "the whole face, with room around it."
    )


def other_faces_notice(portrait: Portrait, way: str) -> str | None:
    """Text for the user where nobody said which of several faces is meant; `None` where there is no choice."""
    if portrait.face is None or not portrait.passed_over:
        return None
    return (
        f"{portrait.passed_over + 1} faces were found; the largest ({_described(portrait.face)}) is animated. Choose "
        f"another with {way} 1 to {portrait.passed_over}, in the order of size."
    )


def _described(face: FaceBox) -> str:
    return f"{face.width:.0f} x {face.height:.0f} pixels at x {face.x:.0f}, y {face.y:.0f}"


def _whole(portrait: Portrait) -> Region:
    height, width = portrait.source.shape[:2]
    return 0, 0, width, height


def _size_in(region: Region, face: FaceBox, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of `face` where `region` is resized to `size`."""
    x0, y0, x1, y1 = region
    return round(face.width * size[0] / (x1 - x0)), round(face.height * size[1] / (y1 - y0))
