"""What detections mean over time: tracks, zones, lines, heatmaps and the events they make; pure."""
