"""Trust: the keys of a fleet, its signed metadata (The Update Framework), and publishing into it."""
