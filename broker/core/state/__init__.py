"""What the core knows: calls, queues, capacity, procedures, models, workers, counts. No module here knows a handler."""
