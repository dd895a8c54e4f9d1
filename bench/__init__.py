"""The benchmark: compares this cluster with other servers in one run on one machine."""
