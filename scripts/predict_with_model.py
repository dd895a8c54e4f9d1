"""Makes one prediction."""

import json
import sys

from scripts.calling import FLOWER, call_and_print, parser


def main() -> None:
    """Call `<model>_predict` and print the result."""
    made = parser(__doc__)
    made.add_argument("--model", default="iris_model", help="its qualified name (default: %(default)s)")
    made.add_argument("--data", default=FLOWER, metavar="JSON", help="its input (default: %(default)s)")
    options = made.parse_args()
    try:
        data = json.loads(options.data)
    except ValueError as error:
        sys.exit(f"error: --data {options.data!r} is not JSON: {error}")
    call_and_print(options.address, options.timeout, lambda client: client(f"{options.model}_predict", data))


if __name__ == "__main__":
    main()
