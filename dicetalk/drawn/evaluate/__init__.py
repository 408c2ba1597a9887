"""Evaluation of a model against drawn faces, whose emotion, identity and mouth are known."""
