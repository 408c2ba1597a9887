"""Training of all three parts, and the made-up talking heads that the small shipped model learns from."""
