"""The `scalpel` command. The one package that may import all others, each inside the command that needs it."""
