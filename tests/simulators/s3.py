"""An object store that speaks S3: moto's server on the loopback, in a thread of this process."""

from collections.abc import Generator
from contextlib import contextmanager

import boto3
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

BUCKET = "bundles"


@contextmanager
def object_store(environment: pytest.MonkeyPatch) -> Generator[str]:
    """Run one with an empty bucket, and point this process's clients at it.

    Yields:
        The bucket's address, `s3://…`.
    """
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in told.items():
        environment.setenv(name, value)
    try:
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}"
    finally:
        # Clients are kept by their address, and the next store has another one.
        S3FileSystem.clear_instance_cache()
        server.stop()
