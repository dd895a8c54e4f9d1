"""Small programs for people: callers of the service, and what the Makefile runs."""
