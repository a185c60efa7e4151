"""The ground floor: the shared vocabulary. Imports nothing above it."""
