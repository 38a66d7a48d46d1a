"""The command line: parses arguments, calls the house, prints answers."""
