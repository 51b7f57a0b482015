"""The Cloud Storage emulator (gcp-storage-emulator), with the preconditions that it ignores."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

_REFUSAL = "At least one of the pre-conditions you specified did not hold."
_CONDITIONS: dict[str, Callable[[int, int, int], bool]] = {
    "ifGenerationMatch": lambda generation, _, wanted: generation == wanted,
    "ifGenerationNotMatch": lambda generation, _, wanted: generation != wanted,
    "ifMetagenerationMatch": lambda _, metageneration, wanted: metageneration == wanted,
    "ifMetagenerationNotMatch": lambda _, metageneration, wanted: metageneration != wanted,
}


@contextmanager
def running(files: Path, *, bucket: str) -> Iterator[str]:
    """The emulator in a thread; gives its URL. Objects lie in `files/<bucket>/<object>`."""
    from gcp_storage_emulator import settings

    settings.STORAGE_DIR = "."  # read when the rest of it is imported
    from gcp_storage_emulator import server

    if not getattr(server, "repaired", False):
        server.repaired = True
        _repair(server)
    files.mkdir(parents=True, exist_ok=True)
    emulator = server.create_server("127.0.0.1", 0, in_memory=False, default_bucket=bucket, data_dir=str(files))
    emulator.start()
    try:
        yield f"http://127.0.0.1:{emulator._api._httpd.socket.getsockname()[1]}"
    finally:
        emulator.stop()


def _repair(server: Any) -> None:
    server.RequestHandler.wbufsize = 1 << 16
    server.RequestHandler.disable_nagle_algorithm = True
    server.HANDLERS = tuple(
        (path, {verb: _conditional(handle) if "/o" in path else handle for verb, handle in handlers.items()})
        for path, handlers in server.HANDLERS
    )


def _conditional(handle: Callable[..., Any]) -> Callable[..., Any]:
    """The handler behind its preconditions; answers with an object's bytes also tell its generation."""

    def handled(request: Any, response: Any, storage: Any, *more: Any, **named: Any) -> Any:
        query = {name: values[0] for name, values in request.query.items()}
        current = storage.objects.get(_bucket(request), {}).get(_object(request, query))
        generation, metageneration = (int(current["generation"]), int(current["metageneration"])) if current else (0, 0)
        for name, holds in _CONDITIONS.items():
            if name in query and not holds(generation, metageneration, int(query[name])):
                response.status = HTTPStatus.PRECONDITION_FAILED
                error = {"code": 412, "message": _REFUSAL, "errors": [{"reason": "conditionNotMet"}]}
                return response.json({"error": error})
        done = handle(request, response, storage, *more, **named)
        if current and handle.__name__ in ("get", "download"):
            response["x-goog-generation"] = current["generation"]
            response["x-goog-metageneration"] = current["metageneration"]
        return done

    return handled


def _bucket(request: Any) -> str:
    params = request.params or {}
    return params.get("dest_bucket_name") or params.get("bucket_name") or ""


def _object(request: Any, query: dict[str, str]) -> str | None:
    params = request.params or {}
    name = params.get("dest_object_id") or params.get("object_id") or query.get("name")
    if name is None and request.method == "POST" and isinstance(request.data, dict):
        name = (request.data.get("meta") or request.data).get("name")
    return name
