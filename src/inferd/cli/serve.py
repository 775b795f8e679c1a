"""`inferd serve`: load the configuration and hand it to the server."""

import sys

import click

from inferd.cli.options import load_from, server_options


@click.command(short_help="Serve the models at PATH...")
@server_options
@click.pass_context
def serve(context: click.Context, /, **_: object) -> None:  # the rest is read by `load_from`
    """Serve the models at PATH...: .onnx files, folders of them, language models (folders with
    config.json and *.safetensors), or model repositories.

    Every option can also be set as INFERD_<OPTION> in the environment, or in a file named by
    --config; the command line wins over the environment, and that over the file.
    """
    loaded = load_from(context)
    from inferd.cli.announce import announce
    from inferd.cli.progress import LoadBar
    from inferd.server import Announcement, run

    bar = LoadBar(sys.stderr) if sys.stderr.isatty() else None

    def started(announcement: Announcement) -> None:
        if bar is not None:
            bar.close()
        announce(announcement)

    context.exit(run(loaded.config, started, bar.update if bar is not None else None))
