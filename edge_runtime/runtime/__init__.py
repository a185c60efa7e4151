"""The runtime for requests: a store's models, routes and cloud, as settings want them; in Python and HTTP.

Knows no camera; `edge_runtime.agent` runs both side by side.
"""
