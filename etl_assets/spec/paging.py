"""How a long list is read."""

from typing import Annotated, Literal

from pydantic import Field

from etl_assets.spec.words import Model

PAGING_VALUES: dict[str, set[str]] = {
    "none": set(),
    "page": {"page", "size"},
    "offset": {"offset", "size"},
    "keyset": {"last", "size"},
    "cursor": {"cursor", "size"},
}


class OnePage(Model):
    """The whole list comes in one answer."""

    type: Literal["none"] = "none"


class PageNumber(Model):
    """`{page}` counts up; the answer says whether there is more, or a short page ends the list."""

    type: Literal["page"]
    size: int = Field(gt=0, description="Rows per page, for `{size}` and the short-page rule.")
    start: int = Field(1, description="Number of the first page.")
    more: str | None = Field(None, description="Path of the has-more flag. Without it a short page ends the list.")
    count: str | None = Field(
        None,
        description="Path of the row total: pages are read one by one, and all again when their rows do not add up.",
    )
    total: str | None = Field(
        None, description="Path of the row total: checked at the end; with it pages are read in parallel."
    )


class Offset(Model):
    """`{offset}` counts rows; a short page ends the list."""

    type: Literal["offset"]
    size: int = Field(gt=0, description="Rows per page, for `{size}` and the short-page rule.")
    overlap: str | None = Field(
        None,
        description="Path of a field that identifies a row: each page repeats the last row of the one before, "
        "and the list is read again when it does not.",
    )
    total: str | None = Field(
        None, description="Path of the row total: checked at the end; with it pages are read in parallel."
    )


class Keyset(Model):
    """`{last}` is the value of `column` in the last row.

    The answer says whether there is more, or a short page ends the list.
    """

    type: Literal["keyset"]
    size: int = Field(gt=0, description="Rows per page, for `{size}` and the short-page rule.")
    column: str = Field(description="Path of the ordering field in a row.")
    start: str | int | None = Field(None, description="`{last}` of the first page; by default it is left out there.")
    inclusive: bool = Field(False, description="The API answers rows >= `{last}`: the boundary row comes twice.")
    more: str | None = Field(None, description="Path of the has-more flag. Without it a short page ends the list.")


class Cursor(Model):
    """`{cursor}` is an opaque token of the answer; an empty one ends the list."""

    type: Literal["cursor"]
    next: str = Field(description="Path of the token in the answer.")
    size: int | None = Field(None, gt=0, description="Rows per page, for `{size}`.")


Paging = Annotated[OnePage | PageNumber | Offset | Keyset | Cursor, Field(discriminator="type")]
