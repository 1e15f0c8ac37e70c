"""`python -m lucid_cli` is the command, too."""

from lucid_cli.main import main

main()
