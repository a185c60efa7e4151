"""A model of MLServer that doubles `x`, run by MLServer's own environment: `mlserver_doubles.py PORT`."""

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.types import InferenceResponse  # type: ignore[import-not-found]


class Doubles(MLModel):
    """Gives `y`, twice `x`."""

    async def load(self) -> bool:
        return True

    async def predict(self, payload):  # type: ignore[no-untyped-def]
        x = NumpyCodec.decode_input(payload.inputs[0])
        y = NumpyCodec.encode_output("y", 2 * x)
        return InferenceResponse(model_name=self.name, model_version="1", outputs=[y])


async def main(port: int) -> None:
    settings = Settings(
        **{"debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": port + 1},
        **{"metrics_port": port + 2, "parallel_workers": 0, "access_log": False},
    )
    await MLServer(settings).start([ModelSettings(name="doubles", implementation=Doubles)])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
