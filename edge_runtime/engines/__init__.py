"""Inference engines: the seam to vendors (`base`), its adapters, and the choice among them (`select`)."""
