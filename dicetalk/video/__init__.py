"""Latents to frames, frames to twice as many, frames and sound to files; everything as a stream."""

from dicetalk.video.clip import collect, exact_fps, frames_to_cover, hold_last_frame
from dicetalk.video.decode import decode_frames
from dicetalk.video.interpolate import interpolate_frames, interpolated_length
from dicetalk.video.retime import hold_frames, retime_frames, retimed_length
from dicetalk.video.rife import FlowNet
from dicetalk.video.write import write_mp4, write_png_folder, write_webm

__all__ = [
    "FlowNet",
    "collect",
    "decode_frames",
    "exact_fps",
    "frames_to_cover",
    "hold_frames",
    "hold_last_frame",
    "interpolate_frames",
    "interpolated_length",
    "retime_frames",
    "retimed_length",
    "write_mp4",
    "write_png_folder",
    "write_webm",
]
