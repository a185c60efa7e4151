"""Converters: one model in, one signed bundle out, with receipts for every device profile.

The route is `recipe → plan → export → quantize → verify → bundle → sign`; `build` walks it.
"""
