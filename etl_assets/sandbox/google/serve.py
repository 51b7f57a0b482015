"""The process that `handle.running` starts: says where the emulators are, and ends with its parent."""

import json
import os
import sys
from pathlib import Path

from etl_assets.sandbox.google.handle import BUCKET, PROJECT


def main(folder: str) -> None:
    """Serve until stdin is closed."""
    files = Path(folder).resolve()
    said = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the emulators print, from their import on
    from etl_assets.sandbox.google import bigquery, gcs, proxy

    with (
        gcs.running(files, bucket=BUCKET) as storage,
        bigquery.running(files, project=PROJECT) as warehouse,
        proxy.before(storage) as storage_proxy,
        proxy.before(warehouse) as warehouse_proxy,
    ):
        os.write(said, json.dumps({"bigquery": warehouse_proxy, "storage": storage_proxy}).encode() + b"\n")
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
