"""Between a picture and the network's image inputs, and back into the full picture."""
