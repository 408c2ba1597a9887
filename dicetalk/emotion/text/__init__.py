"""Emotions from words: tags in a text, subtitles with times, and plain descriptions."""
