"""``python -m celeriac``: the command line, under the interpreter of your choice."""

from celeriac.cli.main import main

if __name__ == "__main__":
    main()
