"""Programs of the systems that the benchmark compares with the cluster."""
