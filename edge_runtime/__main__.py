"""`python -m edge_runtime`: the same as the command `edge-runtime`."""

from edge_runtime.cli import main

main()
