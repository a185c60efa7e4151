"""Edge inference: cameras in, events out, next to the camera. Importing this imports nothing else."""
