"""Scoring: a model over folders of pictures, recordings and tables of texts, out of core and resumable."""
