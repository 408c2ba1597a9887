"""Trains the small model of the package: every network of the method, on drawn faces and synthetic voices."""
