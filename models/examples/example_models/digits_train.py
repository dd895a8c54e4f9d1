"""`digits_train`: fits a classifier of digits on scikit-learn's data, and writes it as an ONNX model.

A logistic regression is a matrix and a vector, so the graph is written by hand.
"""

from pathlib import Path

from example_models.digits import SAVED

OPSET = 17


def train(path: Path = SAVED) -> float:
    """Fit and save. Returns the accuracy on the test data, from 0 to 1."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from sklearn import datasets, linear_model, model_selection

    digits = datasets.load_digits()
    kept = model_selection.train_test_split(digits.data / 16, digits.target, test_size=0.25, random_state=0)
    train_x, test_x, train_y, test_y = kept
    fitted = linear_model.LogisticRegression(max_iter=1000).fit(train_x, train_y)
    weights = [
        numpy_helper.from_array(np.array(16, np.float32), "white"),
        numpy_helper.from_array(fitted.coef_.T.astype(np.float32), "coefficients"),
        numpy_helper.from_array(fitted.intercept_.astype(np.float32), "intercepts"),
    ]
    nodes = [
        helper.make_node("Div", ["pixels", "white"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "coefficients", "intercepts"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return float(fitted.score(test_x, test_y))


def main() -> None:
    """Train, save, and print the accuracy."""
    print(f"accuracy on the test data: {train():.1%}; saved in {SAVED}")


if __name__ == "__main__":
    main()
