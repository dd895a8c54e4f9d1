"""A machine learning model for predicting the species of a flower based on its measurements."""

__version__ = "0.1.0"
