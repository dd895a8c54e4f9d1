"""Prints the OpenRPC document that describes the service, as JSON."""

import json

from scripts.calling import parser, result_of


def main() -> None:
    """Call `get_service_schema` and print the result."""
    options = parser(__doc__).parse_args()
    document = result_of(options.address, options.timeout, lambda client: client.get_service_schema())
    print(json.dumps(document, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
