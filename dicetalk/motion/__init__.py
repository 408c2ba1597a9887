"""Motion over a clip: given as numbers, taken from the voice, or predicted from the speech by Sonic's network."""
