"""Cameras in, scenes out: sources, sampling, the motion gate, scheduling and the threads that run them."""
