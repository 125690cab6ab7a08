"""An S3 server of this process's own, with one bucket that the store `main` lies in."""

import contextlib
import json
import os
import uuid

import datajoint as dj


@contextlib.contextmanager
def bucket():
    """Serve S3 on a free port and let `main` be there, for this process and those it starts."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    name = "inception-" + uuid.uuid4().hex[:8]
    main = {
        "protocol": "s3",
        "endpoint": f"{host}:{port}",
        "bucket": name,
        "location": "lab",
        "access_key": "key",
        "secret_key": "secret",
        "secure": False,
    }
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    client.create_bucket(Bucket=name)
    stores = {"default": "main", "main": main}
    before, dj.config.stores = dj.config.stores, dict(stores)
    given = os.environ.get("DJ_STORES")
    os.environ["DJ_STORES"] = json.dumps(stores)
    try:
        yield client, name
    finally:
        dj.config.stores = before
        if given is None:
            del os.environ["DJ_STORES"]
        else:
            os.environ["DJ_STORES"] = given
        server.stop()


def stored(client, name):
    """Return the key of every object in a bucket."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
    return sorted(item["Key"] for page in pages for item in page.get("Contents", []))
