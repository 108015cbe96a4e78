"""Program of the counting receiver: reads each request whole and answers 200; GET tells how many there were."""

import asyncio
import sys

from aiohttp import web

from tests.servers.http import body_of, serve_forever


class Counting:
    def __init__(self) -> None:
        self.requests = self.bytes = 0

    async def take(self, request: web.BaseRequest) -> web.Response:
        if request.method == "GET":
            return web.json_response({"requests": self.requests, "bytes": self.bytes})
        self.bytes += len(await body_of(request))
        self.requests += 1
        return web.Response()


if __name__ == "__main__":
    asyncio.run(serve_forever(Counting().take, int(sys.argv[1])))
