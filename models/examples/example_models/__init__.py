"""Examples of models: scikit-learn on text, ONNX, plain Python, and a stream."""
