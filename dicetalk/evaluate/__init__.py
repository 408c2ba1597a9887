"""Measures of what the networks have learnt."""
