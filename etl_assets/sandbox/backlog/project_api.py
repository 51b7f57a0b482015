"""Backlog's endpoints for everything but issues: the space, users, projects, activities, wikis, documents, git."""

import base64
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from etl_assets.sandbox.backlog import shapes
from etl_assets.sandbox.backlog.docs import Document, PullRequest, Repository, Wiki
from etl_assets.sandbox.backlog.params import Params, invalid, missing
from etl_assets.sandbox.backlog.shapes import Row
from etl_assets.sandbox.backlog.site import Site
from etl_assets.sandbox.backlog.space import PRIORITIES, RESOLUTIONS, Project, of_project
from etl_assets.sandbox.vendor import Answer, Handler, Request, json_answer

_ADMINISTRATOR = 1
_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)

Item = TypeVar("Item")


class ProjectApi:
    """Handlers of everything but issues."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._space, self._docs, self._shapes = site.space, site.docs, site.shapes

    def routes(self) -> Mapping[str, Handler]:
        """Handlers by method and path."""
        return {
            "GET space": _always(shapes.space),
            "GET space/activities": lambda request: json_answer(self._told(request, self._site.joined(request))),
            "GET activities/{activity:int}": self._activity,
            "GET users": _always(lambda: [shapes.user(row) for row in self._space.users.values() if not row.former]),
            "GET users/myself": lambda request: self._user(request, self._site.caller(request)),
            "GET users/{user:int}": self._user,
            "GET users/{user:int}/icon": lambda request, user: Answer(
                _PIXEL, headers=((b"content-type", b"image/png"),)
            ),
            "GET priorities": _always(lambda: shapes.named(PRIORITIES)),
            "GET resolutions": _always(lambda: shapes.named(RESOLUTIONS)),
            "GET projects": self._projects,
            **self._below_project(),
            "GET wikis": lambda request: json_answer(
                [self._shapes.wiki(row, whole=False) for row in self._wikis(request)]
            ),
            "GET wikis/count": lambda request: json_answer({"count": len(self._wikis(request))}),
            "GET wikis/{wiki:int}": self._wiki,
            "GET documents": self._documents,
            "GET documents/count": self._document_count,
            "GET documents/{code}": self._document,
        }

    def _below_project(self) -> Mapping[str, Handler]:
        space, look = self._space, self._shapes
        lists: dict[str, Callable[[Request, Project], Any]] = {
            "": lambda _, project: shapes.project(project),
            "/statuses": lambda _, project: shapes.statuses(space.statuses[project.id].values()),
            "/issueTypes": lambda _, project: list(map(shapes.issue_type, of_project(space.issue_types, project.id))),
            "/categories": lambda _, project: list(map(shapes.category, of_project(space.categories, project.id))),
            "/versions": lambda _, project: list(map(look.version, of_project(space.versions, project.id))),
            "/customFields": lambda _, project: list(
                map(look.custom_field, of_project(space.custom_fields, project.id))
            ),
            "/users": lambda _, project: [
                shapes.user(row) for row in space.users.values() if row.id in project.members
            ],
            "/activities": lambda request, project: self._told(request, frozenset({project.id})),
            "/git/repositories": lambda _, project: list(
                map(look.repository, of_project(self._docs.repositories, project.id))
            ),
        }
        repository = "GET projects/{project}/git/repositories/{repository}"
        return {
            **{f"GET projects/{{project}}{path}": partial(self._of_project, rows) for path, rows in lists.items()},
            repository: self._repository,
            f"{repository}/pullRequests": self._pulls,
            f"{repository}/pullRequests/count": self._pull_count,
            f"{repository}/pullRequests/{{number:int}}": self._pull,
        }

    def _user(self, request: Request, user: int) -> Answer:
        person = self._space.users.get(user)
        if person is None or person.former:
            raise missing("user")
        return json_answer(shapes.user(person))

    def _projects(self, request: Request) -> Answer:
        """The caller's projects. Only an administrator sees the others too, and not what is in them."""
        params, joined = Params.of_query(request), self._site.joined(request)
        archived, caller = params.flag("archived"), self._space.users[self._site.caller(request)]
        everything = params.flag("all") and caller.role_type == _ADMINISTRATOR
        return json_answer(
            [
                shapes.project(project)
                for project in self._space.projects.values()
                if (everything or project.id in joined) and archived in (None, project.archived)
            ]
        )

    def _of_project(self, rows: Callable[[Request, Project], Any], request: Request, project: str) -> Answer:
        return json_answer(rows(request, self._site.project(request, project)))

    def _told(self, request: Request, projects: frozenset[int]) -> list[Row]:
        params = Params.of_query(request)
        after, before = self._site.bounds(params)
        page = self._site.activities.page(
            projects,
            after=after,
            before=before,
            types=params.numbers("activityTypeId"),
            ascending=params.order() == "asc",
            count=params.count(),
        )
        return list(map(self._shapes.activity, page))

    def _activity(self, request: Request, activity: int) -> Answer:
        page = self._site.activities.page(
            self._site.joined(request), after=activity - 1, before=activity + 1, types=(), ascending=True, count=1
        )
        if not page:
            raise missing("activity")
        return json_answer(self._shapes.activity(page[0]))

    def _wikis(self, request: Request) -> list[Wiki]:
        """All pages of a project: this list has no pages of its own."""
        params = Params.of_query(request)
        project = self._site.project(request, _needed(params, "projectIdOrKey"))
        word = (params.text("keyword") or "").lower()
        return [row for row in of_project(self._docs.wikis, project.id) if word in f"{row.name}\n{row.content}".lower()]

    def _wiki(self, request: Request, wiki: int) -> Answer:
        row = self._docs.wikis.get(wiki)
        if row is None or row.project_id not in self._site.joined(request):
            raise missing("wiki")
        return json_answer(self._shapes.wiki(row, whole=True))

    def _documents(self, request: Request) -> Answer:
        params = Params.of_query(request)
        _needed(params, "offset")
        if (sort := params.text("sort") or "created") not in ("created", "updated"):
            raise invalid(f"unknown sort: {sort}")
        projects, word = params.numbers("projectId"), (params.text("keyword") or "").lower()
        rows = [
            row
            for row in self._documents_of(self._site.joined(request))
            if (not projects or row.project_id in projects) and word in f"{row.title}\n{row.plain}".lower()
        ]
        rows.sort(key=lambda row: (getattr(row, sort), row.id), reverse=params.order() == "desc")
        return json_answer(list(map(self._shapes.document, _page(rows, params))))

    def _document_count(self, request: Request) -> Answer:
        project = self._site.project(request, _needed(Params.of_query(request), "projectIdOrKey"))
        return json_answer({"count": len(self._documents_of(frozenset({project.id})))})

    def _documents_of(self, projects: frozenset[int]) -> list[Document]:
        return [row for row in self._docs.documents.values() if row.project_id in projects]

    def _document(self, request: Request, code: str) -> Answer:
        row = self._docs.documents.get(code)
        if row is None or row.project_id not in self._site.joined(request):
            raise missing("document")
        return json_answer(self._shapes.document(row))

    def _repository(self, request: Request, project: str, repository: str) -> Answer:
        return json_answer(self._shapes.repository(self._seen_repository(request, project, repository)))

    def _seen_repository(self, request: Request, project: str, repository: str) -> Repository:
        rows: Iterable[Repository] = of_project(self._docs.repositories, self._site.project(request, project).id)
        found = next((row for row in rows if repository in (row.name, str(row.id))), None)
        if found is None:
            raise missing("repository")
        return found

    def _pulls(self, request: Request, project: str, repository: str) -> Answer:
        """Newest first, and nothing else: neither sort nor order are known here."""
        params = Params.of_query(request)
        pulls = self._chosen_pulls(request, self._seen_repository(request, project, repository))
        return json_answer([self._shown_pull(request, pull) for pull in _page(pulls, params)])

    def _pull_count(self, request: Request, project: str, repository: str) -> Answer:
        pulls = self._chosen_pulls(request, self._seen_repository(request, project, repository))
        return json_answer({"count": len(pulls)})

    def _pull(self, request: Request, project: str, repository: str, number: int) -> Answer:
        pull = self._docs.pulls.get((self._seen_repository(request, project, repository).id, number))
        if pull is None:
            raise missing("pull request")
        return json_answer(self._shown_pull(request, pull))

    def _chosen_pulls(self, request: Request, repository: Repository) -> list[PullRequest]:
        params = Params.of_query(request)
        filters = {
            "statusId": "status_id",
            "assigneeId": "assignee_id",
            "issueId": "issue_id",
            "createdUserId": "creator_id",
        }
        wanted = [(field, params.numbers(name)) for name, field in filters.items() if params.numbers(name)]
        rows = [row for row in self._docs.pulls.values() if row.repository_id == repository.id]
        return [row for row in reversed(rows) if all(getattr(row, field) in ids for field, ids in wanted)]

    def _shown_pull(self, request: Request, pull: PullRequest) -> Row:
        issue = self._site.tracker.issue(pull.issue_id or 0)
        visible = issue is not None and issue.project_id in self._site.joined(request)
        return self._shapes.pull(pull, issue if visible else None)


def _always(rows: Callable[[], Any]) -> Handler:
    return lambda request: json_answer(rows())


def _needed(params: Params, name: str) -> str:
    text = params.text(name)
    if not text:
        raise invalid(f"{name} is required.")
    return text


def _page(rows: list[Item], params: Params) -> list[Item]:
    start = params.offset()
    return rows[start : start + params.count()]
