"""Emotion from a voice: how strong it is, moment by moment, and which one."""
