"""Models that are loaded, unloaded and routed while the cluster runs."""
