"""The endpoint on a real Ray Serve, in an environment of its own; run it with `-m rivals`."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.simulators.served_bundles import bundle, scaling

pytestmark = [pytest.mark.rivals, pytest.mark.timeout(900)]

ASKING = """
import json, sys, urllib.error, urllib.request

import ray
from ray import serve

from cloud_fallback.serving.ray_app import Arguments, app

bundles, port, most = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _temp_dir=sys.argv[4])
serve.start(http_options={"host": "127.0.0.1", "port": port})
told = Arguments(bundles=bundles, no_auth=True, cpus_per_replica=1, models_per_replica=most)
serve.run(app(told), name="edge", route_prefix="/")


def ask(path, document=None):
    body = None if document is None else json.dumps(document).encode()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


x = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
answers = [ask(f"/v2/models/{name}/infer", {"inputs": [x]}) for name in ("twice", "thrice", "nobody")]
states = {one["name"]: one["state"] for one in ask("/v2/repository/index", {})[1]}
print(json.dumps({"answers": answers, "states": states}))
serve.shutdown()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The Python of an environment with Ray."""
    folder = tmp_path_factory.mktemp("ray-venv")
    uv = (sys.executable, "-m", "uv")
    subprocess.run((*uv, "venv", "--quiet", "--python", sys.executable, str(folder)), check=True)
    found = folder / "bin" / "python"
    wanted = f"{repository}[onnx,cloud,ray]"
    subprocess.run((*uv, "pip", "install", "--quiet", "--python", str(found), "-e", wanted), check=True)
    return found


@pytest.mark.parametrize("most", [None, 1])
def test_replicas_answer_as_one_server_does(python: Path, tmp_path: Path, most: int | None) -> None:
    for name, factor in (("twice", 2.0), ("thrice", 3.0)):
        bundle(tmp_path / "bundles" / name, scaling(factor), name=name)
    port = "18123" if most is None else "18124"
    # A socket's path has at most 107 characters.
    with TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as short:
        done = subprocess.run(
            (str(python), "-c", ASKING, str(tmp_path / "bundles"), port, json.dumps(most), short),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    # Ray's own words may stand around it.
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"answers"')))
    (twice, thrice, nobody) = told["answers"]
    assert twice[1]["outputs"][0]["data"] == [2, 4, 6, 8] and thrice[1]["outputs"][0]["data"] == [3, 6, 9, 12]
    assert nobody[0] == 404 and nobody[1]["code"] == "unknown-model-error"
    ready = [name for name, state in told["states"].items() if state == "READY"]
    assert ready == (["thrice", "twice"] if most is None else ["thrice"])
