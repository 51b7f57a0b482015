"""Backlog's endpoints for issues and comments, which can be read and written."""

from collections.abc import Mapping

from msgspec.structs import replace

from etl_assets.sandbox.backlog.base import Comment, Issue
from etl_assets.sandbox.backlog.forms import changed_issue, new_issue
from etl_assets.sandbox.backlog.params import Params, invalid, missing
from etl_assets.sandbox.backlog.search import Query, Search, read
from etl_assets.sandbox.backlog.site import Site
from etl_assets.sandbox.vendor import Answer, Handler, Request, json_answer

_CHILDREN = "childIssueSummary"


class IssueApi:
    """Handlers of `/issues` and what lies below."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._tracker, self._edits, self._shapes = site.tracker, site.edits, site.shapes
        self._search = Search(site.tracker)

    def routes(self) -> Mapping[str, Handler]:
        """Handlers by method and path."""
        return {
            "GET issues": self._issues,
            "POST issues": self._create,
            "GET issues/count": self._count,
            "GET issues/{issue}": self._one,
            "PATCH issues/{issue}": self._change,
            "DELETE issues/{issue}": self._delete,
            "GET issues/{issue}/comments": self._comments,
            "POST issues/{issue}/comments": self._create_comment,
            "GET issues/{issue}/comments/count": self._comment_count,
            "GET issues/{issue}/comments/{comment:int}": self._comment,
            "PATCH issues/{issue}/comments/{comment:int}": self._change_comment,
            "DELETE issues/{issue}/comments/{comment:int}": self._delete_comment,
        }

    def _issues(self, request: Request) -> Answer:
        params = Params.of_query(request)
        start, count = params.offset(), params.count()
        ids = self._search.ids(self._query(request, params))[start : start + count]
        issues = [issue for issue in map(self._tracker.issue, ids) if issue]
        return Answer(self._shapes.issues(issues, with_children=_CHILDREN in params.texts("expand")))

    def _count(self, request: Request) -> Answer:
        return json_answer({"count": len(self._search.ids(self._query(request, Params.of_query(request))))})

    def _query(self, request: Request, params: Params) -> Query:
        return read(params, joined=self._site.joined(request), zone=self._site.settings.zone, tracker=self._tracker)

    def _one(self, request: Request, issue: str) -> Answer:
        with_children = _CHILDREN in Params.of_query(request).texts("expand")
        return self._rendered(self._seen(request, issue), with_children=with_children)

    def _create(self, request: Request) -> Answer:
        user_id, form = self._site.caller(request), Params.of_form(request)
        joined = self._site.joined(request)
        issue = new_issue(form, self._tracker, joined=joined, user_id=user_id, now=self._site.now())
        issue.id, issue.number = self._tracker.new_issue_id(), self._tracker.new_number(issue.project_id)
        self._edits.create(issue)
        return self._rendered(issue, status=201)

    def _change(self, request: Request, issue: str) -> Answer:
        old, form = self._seen(request, issue), Params.of_form(request)
        user_id, now, content = self._site.caller(request), self._site.now(), form.text("comment")
        new = changed_issue(form, old, self._tracker, user_id=user_id, now=now)
        if replace(new, updated=old.updated, updater_id=old.updater_id) == old and not content:
            raise invalid("Neither a change nor a comment.")
        self._edits.change(old, new, content)
        return self._rendered(new)

    def _delete(self, request: Request, issue: str) -> Answer:
        seen = self._seen(request, issue)
        answer = self._rendered(seen)
        self._edits.delete(seen, self._site.caller(request), self._site.now())
        return answer

    def _comments(self, request: Request, issue: str) -> Answer:
        seen, params = self._seen(request, issue), Params.of_query(request)
        rows = [self._shapes.comment(comment, seen) for comment in self._tracker.comments(seen.id)]
        return json_answer(self._site.by_id(rows, params))

    def _comment_count(self, request: Request, issue: str) -> Answer:
        return json_answer({"count": len(self._tracker.comments(self._seen(request, issue).id))})

    def _comment(self, request: Request, issue: str, comment: int) -> Answer:
        seen = self._seen(request, issue)
        return json_answer(self._shapes.comment(self._seen_comment(seen, comment), seen))

    def _create_comment(self, request: Request, issue: str) -> Answer:
        seen, form, now = self._seen(request, issue), Params.of_form(request), self._site.now()
        if "attachmentId" in form:
            raise invalid("No such attachment.")
        comment = Comment(
            id=self._tracker.new_comment_id(),
            issue_id=seen.id,
            author_id=self._site.caller(request),
            created=now,
            updated=now,
            content=_content(form),
            notified_ids=form.listed("notifiedUserId"),
        )
        self._edits.comment(comment)
        return json_answer(self._shapes.comment(comment, seen), 201)

    def _change_comment(self, request: Request, issue: str, comment: int) -> Answer:
        seen = self._seen(request, issue)
        content = _content(Params.of_form(request))
        new = replace(self._seen_comment(seen, comment), content=content, updated=self._site.now())
        self._tracker.put_comment(new)
        return json_answer(self._shapes.comment(new, seen))

    def _delete_comment(self, request: Request, issue: str, comment: int) -> Answer:
        seen = self._seen(request, issue)
        old = self._seen_comment(seen, comment)
        self._tracker.remove_comment(old)
        return json_answer(self._shapes.comment(old, seen))

    def _seen(self, request: Request, id_or_key: str) -> Issue:
        issue = self._tracker.named(id_or_key)
        if issue is None or issue.project_id not in self._site.joined(request):
            raise missing("issue")
        return issue

    def _seen_comment(self, issue: Issue, comment_id: int) -> Comment:
        comment = self._tracker.comment(comment_id)
        if comment is None or comment.issue_id != issue.id:
            raise missing("comment")
        return comment

    def _rendered(self, issue: Issue, *, status: int = 200, with_children: bool = False) -> Answer:
        return Answer(self._shapes.issue(issue, with_children=with_children).encode(), status)


def _content(form: Params) -> str:
    content = form.text("content")
    if not content:
        raise invalid("content is required.")
    return content
