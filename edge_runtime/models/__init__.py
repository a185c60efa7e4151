"""The bundles that come with the runtime: one folder each, found by `edge_runtime.bundle.shipped_bundle`."""
