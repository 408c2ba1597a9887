"""Measures and pictures that need no more than frames, sound or priors."""
