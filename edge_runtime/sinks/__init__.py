"""Where events and pictures go: files, an MQTT broker, annotated videos, a report."""
