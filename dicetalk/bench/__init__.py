"""Measurements: time and peak memory of each stage, and two settings side by side."""
