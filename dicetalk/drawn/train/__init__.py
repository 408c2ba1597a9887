"""Training of the small bundled model: every network of the method, on drawn faces and synthetic voices."""
