"""Speech: decoding, resampling, Whisper states, the windows around each frame, audio tokens."""
