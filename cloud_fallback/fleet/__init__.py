"""The manager of a fleet: what it decides (pure) and, around that, what it keeps and serves."""
