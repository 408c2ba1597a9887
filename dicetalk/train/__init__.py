"""Training of the emotion embedder and of the diffusion model."""
