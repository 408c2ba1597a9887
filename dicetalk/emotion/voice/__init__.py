"""What a voice tells about an emotion: how strong it is, moment by moment, and which one."""
