"""ComfyUI nodes on the library dicetalk: they turn types, lend memory and progress, and compute nothing themselves."""
