"""Small programs for people: callers of the service, and what the Makefile runs."""

from scripts import interrupts as interrupts  # before any command imports more, which takes a while
