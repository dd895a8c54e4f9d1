"""Lists the models that the cluster hosts."""

from scripts.calling import call_and_print, parser


def main() -> None:
    """Call `get_models` and print the result."""
    made = parser(__doc__)
    options = made.parse_args()
    call_and_print(options.address, options.timeout, lambda client: client.get_models())


if __name__ == "__main__":
    main()
