"""Data sets of talking faces become training clips: finding videos, cutting out faces, listening, labels."""
