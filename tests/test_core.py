import asyncio
from pathlib import Path

from backends.onnx_models import add, write
from fakes import on_loop
from inferd.config.server import ServerConfig
from inferd.core import Core


@on_loop
async def test_a_server_that_stops_does_not_follow_the_repository_any_more(tmp_path: Path) -> None:
    write(tmp_path, "m", add(1))
    core = Core(ServerConfig(paths=(str(tmp_path),), reload=True))
    assert await core.start()
    following = [t for t in asyncio.all_tasks() if "ControlPlane.poll" in str(t.get_coro())]
    assert len(following) == 1
    over: list[bool] = []

    async def idle() -> None:
        over.extend(task.done() for task in following)

    assert await core.shut_down(idle=idle)
    await core.end()
    assert over == [True]
