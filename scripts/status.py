"""`make status`: what supervisor says of the processes."""

from scripts import supervision


def main() -> None:
    """Print supervisor's table."""
    if not supervision.is_running():
        supervision.fail("the cluster is not running; start it with make up")
    print(supervision.control("status").stdout, end="")


if __name__ == "__main__":
    main()
