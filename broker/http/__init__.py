"""The HTTP pages of the broker: metrics, health, discovery."""
