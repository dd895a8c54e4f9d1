"""`make down`: stops the cluster after the calls in flight have ended."""

from scripts import supervision


def main() -> None:
    """Stop the cluster if it runs."""
    if not supervision.processes():
        print("the cluster is not running")
        return
    print("stopping: the broker first, then the workers", flush=True)
    supervision.stop()
    print("stopped")


if __name__ == "__main__":
    main()
