"""Simulated devices: thousands in one process, for the demo, the benchmark and tests."""
