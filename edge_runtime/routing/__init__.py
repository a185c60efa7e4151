"""Routing: who answers a request, the device or the cloud, and all that makes asking the cloud safe."""
