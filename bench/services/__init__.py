"""Programs that the cluster is compared with."""
