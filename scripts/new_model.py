"""Creates the package of a new model, and adds it to the cluster.

    python scripts/new_model.py fever_model

creates models/fever_model with a class, a schema, a training script and a test. It adds the package to
requirements.txt, so that `make up` installs it, and to worker/config.py, so that workers host it.
"""

import argparse
import importlib.util
import json
import keyword
import re
import sys
from pathlib import Path
from string import Template

REPOSITORY = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).with_name("model_template")
_LIST_OF_MODELS = re.compile(r"(class Config:.*?\n    models: [^\n]*= \[\n.*?)(\n    \]\n)", re.DOTALL)


def main() -> None:
    """Write the package, and add the two lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="qualified name of the model: letters, digits and _, such as fever_model")
    parser.add_argument("--root", type=Path, default=REPOSITORY, help=argparse.SUPPRESS)
    options = parser.parse_args()
    name, root = options.name, options.root
    if not re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name) or keyword.iskeyword(name):
        sys.exit(f"error: {name!r} is not a name for a model: it should be in small letters, such as fever_model")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    if keyword.iskeyword(class_name):
        sys.exit(f"error: {name!r} is not a name for a model: its class would be {class_name}; choose another name")
    folder = root / "models" / name
    if importlib.util.find_spec(name) is not None:
        sys.exit(f"error: there is a Python module {name!r} already: choose another name")
    if folder.exists():
        sys.exit(f"error: {folder} exists already: choose another name, or remove it")
    requirements, config = root / "requirements.txt", root / "worker" / "config.py"
    text, found = config.read_text(), _LIST_OF_MODELS.search(config.read_text())
    if found is None:
        sys.exit(f"error: {config} has no list Config.models in its original form: add the model's entry by hand")
    _write_package(folder, name, class_name)
    line = "\n" if requirements.read_text().endswith("\n") else "\n\n"
    requirements.write_text(requirements.read_text().rstrip("\n") + line + f"-e ./models/{name}\n")
    entry = json.dumps({"module_name": f"{name}.predict", "class_name": class_name})
    config.write_text(f"{text[: found.end(1)]}\n        {entry},{text[found.start(2) :]}")
    print(f"{folder}: put your model into {name}/predict.py and {name}/train.py")
    print("make up                       installs and serves it (after make down, if the cluster runs)")
    print(f".venv/bin/{name}_train        trains it again")
    print(f"make test-model NAME={name}    tests it in seconds, without a cluster")


def _write_package(folder: Path, name: str, class_name: str) -> None:
    imports = ["from ml_model_abc import MLModelSchemaValidationException", f"from {name}.predict import {class_name}"]
    values = {
        "name": name,
        "class_name": class_name,
        "title": " ".join(part.capitalize() for part in name.split("_")),
        "distribution": name.replace("_", "-"),
        "folder": name,
        "imports": "\n".join(sorted(imports)),
    }
    files = {
        "pyproject.toml": folder,
        "__init__.py": folder / name,
        "predict.py": folder / name,
        "train.py": folder / name,
        "test_model.py": folder / "tests",
    }
    for file, place in files.items():
        place.mkdir(parents=True, exist_ok=True)
        made = Template((TEMPLATES / f"{file}.template").read_text()).substitute(values)
        (place / file).write_text(made)
    # What its train.py makes, so that it serves before anybody has trained it.
    (folder / name / "model.json").write_text('{"left": [0.5, 0.5], "right": [4.5, 4.5]}\n')


if __name__ == "__main__":
    main()
