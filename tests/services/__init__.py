"""Tiny real models and services that the tests run."""
