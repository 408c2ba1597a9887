"""Emotions read off reference clips: their faces and their voices."""
