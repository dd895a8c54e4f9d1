"""The broker: one stable ZeroRPC endpoint in front of any number of workers."""
