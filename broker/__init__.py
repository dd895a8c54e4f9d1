"""The broker: one stable ZeroRPC endpoint in front of any number of workers."""

from cluster.runtime import compiled

compiled.use()
