"""`inferd serve`: load the configuration and hand it to the server."""

import sys

import click

from inferd.cli.options import ServerCommand, ignored_options, load_from, server_options


@click.command(cls=ServerCommand, short_help="Serve the models at PATH...")
@server_options
@click.pass_context
def serve(context: click.Context, /, **_: object) -> None:  # the rest is read by `load_from`
    """Serve the models at PATH...: files (.onnx, .pt2, .keras, .skops, .json of XGBoost and more),
    folders of them, what frameworks save as folders (SavedModel, MLflow, Hugging Face), model
    repositories, and models written in Python (app.py, app.py:Class). NAME=PATH chooses the name.

    Every option can also be set as INFERD_<OPTION> in the environment, or in a file named by
    --config; the command line wins over the environment, and that over the file. The options of
    tritonserver are taken, too, under its names (--model-repository PATH, --allow-grpc=false).
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

    progress = bar.update if bar is not None else None
    context.exit(run(loaded.config, started, progress, ignored_options(context)))
