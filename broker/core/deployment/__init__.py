"""Deployment: loads, unloads and routes models while the cluster runs."""
