"""The commands of `distill`, each in a module of its name: its own options, the call, what it prints."""
