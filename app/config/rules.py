"""The tables `[[rules]]` and `[groups]` of the file: what an operator allows or denies."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.access.htpasswd import is_user_name
from app.access.networks import Networks
from app.access.rules import Condition, DigestSet, Rule
from app.config.types import ClientNetworks, RegistryHost, Username
from app.oci.errors import DigestInvalid
from app.oci.manifest import Platform
from app.oci.reference import Digest

# The table `[groups]` of the file. It lists the users of each group; rules name one as `@group`.

_GROUP_SIGN: Final = "@"
_GROUP_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _check_group(name: str) -> str:
    if not _GROUP_NAME.fullmatch(name):
        message = "write a group name of at most 64 letters, digits, . _ and -"
        raise ValueError(message)
    return name


def _check_name(text: str) -> str:
    if not is_user_name(text):
        message = "not a valid user name"
        raise ValueError(message)
    return text


def _check_user_or_group(text: str) -> str:
    if text.startswith(_GROUP_SIGN):
        _check_group(text.removeprefix(_GROUP_SIGN))
    return _check_name(text)


def _check_member(text: str) -> str:
    if text.startswith(_GROUP_SIGN):
        message = "a group cannot contain groups; list its users"
        raise ValueError(message)
    return _check_name(text)


def _check_members(members: tuple[str, ...]) -> tuple[str, ...]:
    if not members:
        message = "it is empty; write at least one user, or leave it out"
        raise ValueError(message)
    return members


UserOrGroup = Annotated[Username, AfterValidator(_check_user_or_group)]
Groups = Mapping[
    Annotated[str, AfterValidator(_check_group)],
    Annotated[
        tuple[Annotated[Username, AfterValidator(_check_member)], ...],
        AfterValidator(_check_members),
    ],
]


def expand_groups(entries: Iterable[str], groups: Groups) -> frozenset[str]:
    """Return the users in `entries`, with each `@group` replaced by its users.

    Raise ValueError if a group does not exist.
    """
    return frozenset(_expand(entries, groups))


def _expand(entries: Iterable[str], groups: Groups) -> Iterator[str]:
    for entry in entries:
        if not entry.startswith(_GROUP_SIGN):
            yield entry
            continue
        name = entry.removeprefix(_GROUP_SIGN)
        if name not in groups:
            advice = f"[groups] has {', '.join(groups)}" if groups else "write a table [groups]"
            message = f"users: there is no group {name}; {advice}"
            raise ValueError(message)
        yield from groups[name]


def iter_users(entries: Iterable[str]) -> Iterator[str]:
    """Yield the users in `entries` that are named individually, not by a group."""
    return (entry for entry in entries if not entry.startswith(_GROUP_SIGN))


_MAX_LENGTH: Final = 255
_REPOSITORY: Final = re.compile(r"[a-z0-9._/*?-]+")
_TAG: Final = re.compile(r"[A-Za-z0-9._*?-]+")
_ALL_DIGESTS: Final = "*"
_ALLOW_ONLY: Final = {
    "digest_only": "it allows requests by digest, and refuses those by tag",
    "platforms": "it allows these images, and no others",
    "min_age_days": "it allows these images, and no others",
}
_NOT_WITH_TAG: Final = {
    "digest_only": "remove tag, which matches requests by tag only: together they match nothing",
    "digests": "remove tag, which matches requests by tag only: digests match both kinds",
    "platforms": "remove tag: requests by digest, as for images of an index, would pass",
    "min_age_days": "remove tag: requests by digest, as for images of an index, would pass",
}
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")


def _check_repository_pattern(text: str) -> str:
    if text == "*":
        message = "* does not match a slash: write ** for every repository, or remove it"
        raise ValueError(message)
    if not _REPOSITORY.fullmatch(text) or len(text) > _MAX_LENGTH or _is_invalid_path(text):
        message = (
            "write a repository in its registry's own naming, like library/nginx or team/**, "
            "without the registry, a tag or a digest"
        )
        raise ValueError(message)
    return text


def _is_invalid_path(text: str) -> bool:
    return text.startswith("/") or text.endswith("/") or "//" in text


def _check_tag_pattern(text: str) -> str:
    if not _TAG.fullmatch(text) or len(text) > _MAX_LENGTH:
        message = "write a tag, like latest or v*"
        raise ValueError(message)
    return text


def _normalize_platform(text: str) -> str:
    return str(Platform.parse(text))


def _check_digest(text: str) -> str:
    message = "write a sha256 or sha512 digest, like sha256:... with 64 digits, or *"
    try:
        is_valid = text == _ALL_DIGESTS or Digest.parse(text).can_be_verified
    except DigestInvalid:
        is_valid = False
    if not is_valid:
        raise ValueError(message)
    return text


def _build_digests(digests: tuple[str, ...]) -> DigestSet:
    digest_set = frozenset(Digest(text) for text in digests if text != _ALL_DIGESTS)
    return DigestSet(digest_set, includes_all=_ALL_DIGESTS in digests)


def _check_message(text: str) -> str:
    if not text.strip() or len(text) > _MAX_LENGTH or _CONTROL_CHARACTER.search(text):
        message = f"write one line of at most {_MAX_LENGTH} characters"
        raise ValueError(message)
    return text


class RuleSettings(BaseModel):
    """A `[[rules]]` table as the operator writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["allow", "deny"] = Field(description="`allow` or `deny`.")
    registry: RegistryHost | None = Field(
        None, description="One of the registry's names. Unset: any registry."
    )
    repository: Annotated[str, AfterValidator(_check_repository_pattern)] | None = Field(
        None,
        description="The repository, in the registry's own naming: `library/nginx`, "
        "`team/*`, `team/**`. `*` matches any characters except a slash, `**` any characters, "
        "`?` one character except a slash. Unset: any repository.",
    )
    tag: Annotated[str, AfterValidator(_check_tag_pattern)] | None = Field(
        None,
        description="The tag, with `*` and `?` as above; such a rule matches only requests "
        "for a manifest by tag.",
    )
    digests: tuple[Annotated[str, AfterValidator(_check_digest)], ...] | None = Field(
        None,
        description='Digests of manifests, like `["sha256:..."]`, or `["*"]` for all; such '
        "a rule matches only requests for these manifests, by digest or by a tag that leads "
        "to one.",
    )
    digest_only: bool = Field(
        default=False,
        description="With `allow`: manifests are served by digest, and refused by tag.",
    )
    networks: tuple[ClientNetworks, ...] | None = Field(
        None, description='Addresses and networks of clients, like `["10.0.0.0/8"]`. Unset: all.'
    )
    users: tuple[UserOrGroup, ...] | None = Field(
        None,
        description="Users of `DOCXY_HTPASSWD_FILE`, and groups of the table `[groups]`, "
        'like `["alice", "@platform"]`. Unset: all users, or everybody if there are no users.',
    )
    platforms: tuple[Annotated[str, AfterValidator(_normalize_platform)], ...] | None = Field(
        None,
        description="With `allow`: the platforms whose images are served, like "
        '`["linux/amd64"]`; the manifests of other images are refused. Unset: all.',
    )
    min_age_days: Annotated[int, Field(ge=1, le=36500, strict=True)] | None = Field(
        None,
        description="With `allow`: the minimum age of an image in days, by its own date; "
        "the manifests of younger images are refused. Unset: any age.",
    )
    message: Annotated[str, AfterValidator(_check_message)] | None = Field(
        None, description="The message for clients that this rule refuses."
    )

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        for name, reason in _ALLOW_ONLY.items():
            if self.action == "deny" and getattr(self, name):
                message = f'{name}: use it with action = "allow": {reason}'
                raise ValueError(message)
        for name, reason in _NOT_WITH_TAG.items():
            if self.tag is not None and getattr(self, name):
                message = f"{name}: {reason}"
                raise ValueError(message)
        for name in ("networks", "users", "digests", "platforms"):
            if getattr(self, name) == ():
                message = f"{name}: it is empty; write at least one, or leave it out"
                raise ValueError(message)
        return self

    def build_rule(self, number: int, groups: Groups) -> Rule:
        """Return the rule; `number` is its position in the list, counted from one.

        Raise ValueError if it names a group that does not exist.
        """
        return Rule(
            number=number,
            allows=self.action == "allow",
            registry=self.registry,
            repository=self.repository,
            tag=self.tag,
            digests=None if self.digests is None else _build_digests(self.digests),
            digest_only=self.digest_only,
            networks=None if self.networks is None else Networks(",".join(self.networks)),
            users=None if self.users is None else expand_groups(self.users, groups),
            condition=self._build_condition(),
            message=self.message or "",
        )

    def _build_condition(self) -> Condition | None:
        if self.platforms is None and self.min_age_days is None:
            return None
        return Condition(
            None if self.platforms is None else tuple(map(Platform.parse, self.platforms)),
            None if self.min_age_days is None else timedelta(days=self.min_age_days),
        )
