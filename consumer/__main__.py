"""``python -m consumer`` is ``visit-consumer``."""

from consumer.cli import main

if __name__ == "__main__":
    main()
