"""Scoring beyond one machine: the work of `edge-runtime score` on a cluster."""
