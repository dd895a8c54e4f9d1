"""`make down`: stops the cluster after the calls in flight have ended."""

from scripts import interrupts, leftovers, supervision


def main() -> None:
    """Stop the cluster if it runs."""
    interrupts.explain(lambda: "what has begun to stop goes on stopping; make status shows what still runs")
    if supervision.processes():
        print("stopping: the broker first, then the workers", flush=True)
        supervision.stop()
        print("stopped")
    elif left := leftovers.find():
        print(f"supervisord has died; stopping what it has left: {leftovers.describe(left)}", flush=True)
        leftovers.end(left)
        print("stopped")
    else:
        print("the cluster is not running")


if __name__ == "__main__":
    main()
