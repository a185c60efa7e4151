"""The endpoint in the data centre: bundles of a repository, served with batches that learn what pays."""
