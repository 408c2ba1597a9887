"""Emotion: priors, mixing, tracks over time, the emotion bank and its tokens."""
