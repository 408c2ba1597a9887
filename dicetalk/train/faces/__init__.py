"""Talking heads drawn by rule: who they are, what their face does, and the picture of it."""
