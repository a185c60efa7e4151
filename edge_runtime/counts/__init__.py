"""What a shop wants to know of its cameras: entrances by the hour, people inside, stays, waiting lines, heat.

`edge_runtime.analytics` works it out; here it is kept, read and exported.
"""
