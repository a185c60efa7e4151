"""The HTTP door, for the device and for the cloud: an ASGI application, and a server for it."""
