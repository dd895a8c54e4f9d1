"""Small models of four kinds: scikit-learn on text, ONNX, plain Python, and one that streams."""
