"""``python -m unierase_cli``."""

from unierase_cli.cli.app import main

if __name__ == "__main__":
    main()
