"""Backlog's wikis, documents, git repositories and pull requests: a few dozen rows, whatever the scale.

Per project 4 wikis, 9 documents and a repository (INFRA has two) with 25 pull requests each; SALES, which the
caller cannot see, has one wiki and one document. Some were written or changed on data days. Issues belong to
`backlog_base`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from etl_assets.sandbox.backlog.base import FIRST_ISSUE_ID
from etl_assets.sandbox.backlog.space import CALLER_ID, FIRST_PROJECT_ID, HIDDEN_ID, Master
from etl_assets.sandbox.times import DAY
from etl_assets.sandbox.vendor import Change
from etl_assets.sandbox.world import ISSUE_PROJECTS, numbers

PULL_STATUSES = {1: "Open", 2: "Closed", 3: "Merged"}

_WIKIS, _DOCUMENTS, _PULLS = 4, 9, 25
_BEFORE_DAYS = 60
_PROJECT_IDS = tuple(FIRST_PROJECT_ID + i for i in range(len(ISSUE_PROJECTS)))
_AUTHORS = 16
_TEXTS = ("# 手順\n\n1. 準備\n2. 実行", "", 'Quotes "and" commas, and\ttabs', "議事録 📝\r\n- 決定事項: なし")
_WIKI_NAMES = ("Home", "運用手順/デプロイ", 'FAQ "beta"', "Notes, old")
_BRANCHES = ("feature/login", "fix/在庫", "chore/deps", "release/2.0")


class Written(Master, kw_only=True):
    """What all these rows have in common."""

    project_id: int
    creator_id: int
    created: int
    updater_id: int
    updated: int


class Wiki(Written, kw_only=True):
    """A wiki page."""

    name: str
    content: str
    tags: dict[int, str] = msgspec.field(default_factory=dict)


class Document(Written, kw_only=True):
    """A document; the API calls it by `code`."""

    code: str
    title: str
    plain: str
    emoji: str | None = None


class Repository(Written, kw_only=True):
    """A git repository."""

    name: str
    description: str
    pushed: int | None = None


class PullRequest(Written, kw_only=True):
    """A pull request, called by its number within the repository."""

    repository_id: int
    number: int
    summary: str
    description: str
    branch: str
    status_id: int
    assignee_id: int | None = None
    issue_id: int | None = None


class Event(msgspec.Struct, kw_only=True):
    """Something that happened to a row, as the activities tell it."""

    moment: int
    project_id: int
    type: int
    author_id: int
    content: dict[str, Any]


class _Removal(msgspec.Struct, forbid_unknown_fields=True):
    delete: list[int]


class Docs:
    """All these rows, by id."""

    def __init__(self, *, seed: int, begin: int, end: int) -> None:
        """Rows are written in the weeks before `begin`, and changed until `end`."""
        self._seed = seed
        self._begin, self._end = begin, end
        self.wikis = {row.id: row for row in self._wikis()}
        self.documents = {row.code: row for row in self._documents()}
        self.repositories = {row.id: row for row in self._repositories()}
        self.pulls = {(row.repository_id, row.number): row for row in self._pulls()}

    def removal(self, stream: str, payload: dict[str, Any]) -> Change:
        """The removal of the `documents` or `pull_requests` whose ids `payload` names under `delete`, checked."""
        rows: dict[Any, Any] = self.documents if stream == "documents" else self.pulls
        gone = set(msgspec.convert(payload, _Removal).delete)
        if unknown := gone - {row.id for row in rows.values()}:
            raise ValueError(f"no {stream} {unknown}")
        return partial(_remove, rows, gone)

    def events(self) -> Iterator[Event]:
        """What happened to the rows."""
        for wiki in self.wikis.values():
            yield from _events(wiki, 5, 6, {"id": wiki.id, "name": wiki.name, "content": wiki.content, "diff": None})
        for doc in self.documents.values():
            yield _event(doc, 36, doc.created, {"id": doc.code, "title": doc.title})
        for repository in self.repositories.values():
            described = {"id": repository.id, "name": repository.name, "description": repository.description}
            yield _event(repository, 13, repository.created, {"repository": described})
            if repository.pushed:
                yield _event(repository, 12, repository.pushed, _push(described))
        for pull in self.pulls.values():
            repository = self.repositories[pull.repository_id]
            content = {
                "id": pull.id,
                "number": pull.number,
                "summary": pull.summary,
                "description": pull.description,
                "comment": None,
                "changes": [],
                "repository": {"id": repository.id, "name": repository.name, "description": repository.description},
                "issue": None,
            }
            yield from _events(pull, 18, 21 if pull.status_id == 3 else 19, content)

    def _wikis(self) -> Iterator[Wiki]:
        for project_id in (*_PROJECT_IDS, HIDDEN_ID):
            for i in range(1 if project_id == HIDDEN_ID else _WIKIS):
                row_id = project_id * 600 + i
                tags = {project_id * 610 + i: "運用"} if i % 2 else {}
                yield Wiki(
                    **self._written("wiki", row_id, project_id),
                    name=_WIKI_NAMES[i],
                    content=_TEXTS[i % len(_TEXTS)],
                    tags=tags,
                )

    def _documents(self) -> Iterator[Document]:
        for project_id in (*_PROJECT_IDS, HIDDEN_ID):
            for i in range(1 if project_id == HIDDEN_ID else _DOCUMENTS):
                row_id = project_id * 700 + i
                high, low = numbers(2, self._seed, "document code", row_id)
                yield Document(
                    **self._written("document", row_id, project_id),
                    code=f"{high:016x}{low:016x}",
                    title=f"設計書 {i + 1}" if i % 2 else f"Minutes #{i + 1}",
                    plain=_TEXTS[i % len(_TEXTS)],
                    emoji="📘" if i % 3 == 0 else None,
                )

    def _repositories(self) -> Iterator[Repository]:
        names = ((101, "site"), (102, "shop"), (103, "infra"), (103, "terraform"))
        for i, (project_id, name) in enumerate(names):
            written = self._written("repository", 801 + i, project_id)
            pushed = None if name == "terraform" else self._end - 3_600 * (i + 1)
            yield Repository(**written, name=name, description="" if i % 2 else f"Source of {name}", pushed=pushed)

    def _pulls(self) -> Iterator[PullRequest]:
        for repository in self.repositories.values():
            for number in range(1, _PULLS + 1):
                row_id = repository.id * 100 + number
                word = numbers(1, self._seed, "pull request", row_id)[0]
                which = repository.project_id - FIRST_PROJECT_ID
                yield PullRequest(
                    **self._written("pull request", row_id, repository.project_id),
                    repository_id=repository.id,
                    number=number,
                    summary=f"Merge {_BRANCHES[word & 3]}" if number % 4 else "ログイン修正 🚀",
                    description=_TEXTS[(word >> 2) & 3],
                    branch=_BRANCHES[word & 3],
                    status_id=(3, 3, 2, 1)[(word >> 4) & 3],
                    assignee_id=CALLER_ID + (word >> 8) % _AUTHORS if word >> 6 & 1 else None,
                    issue_id=FIRST_ISSUE_ID + which + 3 * ((word >> 16) % 300) if word >> 7 & 1 else None,
                )

    def _written(self, kind: str, row_id: int, project_id: int) -> dict[str, Any]:
        word, other = numbers(2, self._seed, kind, row_id)
        created = self._begin - 1 - word % (_BEFORE_DAYS * DAY)
        later = self._begin + (word >> 32) % (self._end - self._begin)
        return {
            "id": row_id,
            "project_id": project_id,
            "creator_id": CALLER_ID + other % _AUTHORS,
            "created": created,
            "updater_id": CALLER_ID + (other >> 8) % _AUTHORS,
            "updated": later if other >> 16 & 1 else created,
        }


def _remove(rows: dict[Any, Any], gone: set[int]) -> dict[str, int]:
    for key in [key for key, row in rows.items() if row.id in gone]:
        del rows[key]
    return {"rows": len(rows)}


def _push(repository: dict[str, Any]) -> dict[str, Any]:
    return {
        "repository": repository,
        "change_type": "update",
        "revision_type": "commit",
        "ref": "refs/heads/main",
        "revision_count": 1,
        "revisions": [{"rev": "0123456789abcdef0123456789abcdef01234567", "comment": "Fix the build\n\n詳細は wiki"}],
    }


def _events(row: Written, created: int, updated: int, content: dict[str, Any]) -> Iterator[Event]:
    yield _event(row, created, row.created, content)
    if row.updated != row.created:
        yield _event(row, updated, row.updated, content)


def _event(row: Written, kind: int, moment: int, content: dict[str, Any]) -> Event:
    author_id = row.creator_id if moment == row.created else row.updater_id
    return Event(moment=moment, project_id=row.project_id, type=kind, author_id=author_id, content=content)
