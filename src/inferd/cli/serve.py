"""`inferd serve`: load the configuration and hand it to the server."""

import click

from inferd.cli.options import load_from, server_options


@click.command(short_help="Serve the models at PATH...")
@server_options
@click.pass_context
def serve(context: click.Context, /, **_: object) -> None:  # the rest is read by `load_from`
    """Serve the models at PATH...: .onnx files, folders of them, or model repositories.

    Every option can also be set as INFERD_<OPTION> in the environment, or in a file named by
    --config; the command line wins over the environment, and that over the file.
    """
    loaded = load_from(context)
    from inferd.cli.announce import announce
    from inferd.server import run

    context.exit(run(loaded.config, announce))
