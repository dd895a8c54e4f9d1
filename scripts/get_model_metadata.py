"""Shows the metadata of a model, with its schemas as JSON Schema."""

from scripts.calling import call_and_print, parser


def main() -> None:
    """Call `get_model_metadata` and print the result."""
    made = parser(__doc__)
    made.add_argument("--model", default="iris_model", help="its qualified name (default: %(default)s)")
    options = made.parse_args()
    call_and_print(options.address, options.timeout, lambda client: client.get_model_metadata(options.model))


if __name__ == "__main__":
    main()
