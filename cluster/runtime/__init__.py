"""What every process of the cluster needs to run: settings, configuration errors, logs, HTTP and wake-ups."""
