"""What the cluster is compared with, each a program of its own."""
