"""The benchmark: compares this cluster with other systems, in one run on one machine."""
