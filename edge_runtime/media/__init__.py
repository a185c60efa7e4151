"""The clip of the demo; no code."""
