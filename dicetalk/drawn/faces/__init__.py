"""Procedural talking heads: identity, expression, motion, and their rendering."""
