"""Writing, packing, signing and comparing bundles; `edge_runtime.bundle` opens them."""
