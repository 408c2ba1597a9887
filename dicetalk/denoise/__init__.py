"""The denoiser: UNet with decoupled attention, noise schedule, windows, guidance and the sampling loop."""
