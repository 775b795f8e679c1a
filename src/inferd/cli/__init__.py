"""The `inferd` command: one file a command, options generated from the configuration's types.

Modules here import little at the top, so that `inferd --version` is quick; what a command needs is
imported inside it. The command line decides nothing that the server could not be told otherwise.
"""
