"""Where images stand in commands: `docker pull`, `docker run`, and what other clients have."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

Span = tuple[int, int]
Word = tuple[int, int, str]
"""Where a word stands, without its quotes, and what it says."""

_WORD: Final = re.compile(
    r"(?P<end>\n|&&?|\|\|?|;)|'(?P<single>[^'\n]*)'|\"(?P<double>[^\"\n]*)\""
    r"|(?P<bare>(?:\\[^\n]|\$\{[^{}\n]*\}|[^\s'\"\\;&|])+)|\\\n|."
)
_TRANSPORT: Final = re.compile(
    r"docker://|(?:dir|oci|oci-archive|docker-archive|docker-daemon|containers-storage|sif):"
)
_PROGRAMS: Final = frozenset({
    "docker", "podman", "nerdctl", "buildah", "crictl", "ctr", "skopeo", "kubectl",
})  # fmt: skip
_GROUPS: Final = frozenset({
    "image", "images", "i", "container", "containers", "c", "buildx", "imagetools", "manifest",
    "service",
})  # fmt: skip
_ALL: Final = frozenset({"pull", "image pull", "images pull", "i pull"})
_RUNS: Final = frozenset({
    "run", "create", "container run", "container create", "containers create", "c create",
    "service create",
})  # fmt: skip
_FIRST: Final = frozenset({"from", "image inspect", "imagetools inspect", "manifest inspect"})
"""What reads, by the last group and the command; others of these names read no image."""

_ONLY: Final = {"buildah": frozenset({"pull", "from"}), "crictl": frozenset({"pull"})}
"""Where the same words mean something else with other programs."""

_WITH_VALUE: Final = frozenset({
    "-H", "--host", "--context", "--config", "-l", "--log-level", "-n", "--namespace",
    "-a", "--address", "--root", "--runroot", "--storage-driver", "--platform", "--creds",
    "--authfile", "--cert-dir", "--arch", "--os", "--variant", "--policy", "-u", "--user",
    "--snapshotter", "--hosts-dir", "--tlscacert", "--retry", "--retry-delay", "--label",
    "--auth", "--format", "-f", "-r", "--runtime-endpoint", "--image-endpoint", "-i",
})  # fmt: skip
"""What takes a value before a command, and in one that has few options."""

_WITHOUT_VALUE: Final = frozenset({
    "--detach", "--disable-content-trust", "--help", "--init", "--interactive",
    "--no-healthcheck", "--oom-kill-disable", "--privileged", "--publish-all", "--quiet",
    "--read-only", "--rm", "--sig-proxy", "--tty", "--replace", "--tls-verify", "--rmi",
    "--net-host", "--plain-http", "--no-hosts", "--use-api-socket", "--env-host",
    "--http-proxy", "--passwd", "--read-only-tmpfs", "--unsetenv-all", "--with-registry-auth",
    "--no-resolve-image", "--null-io", "--cni", "--",
})  # fmt: skip
_TAGS: Final = frozenset({"-a"})
_HAVE_TAGS: Final = frozenset({"docker", "podman", "nerdctl"})
"""Where that asks for all tags, behind `pull`; elsewhere it takes a value."""

_LETTERS_WITHOUT_VALUE: Final = frozenset("diPqt")
"""What takes none in `run` and `create`, where nearly all does."""


def spans(text: str) -> Iterator[Span]:
    """Give the place of each image that a command would pull."""
    for words in _commands(text):
        names = [word.rpartition("/")[2].removesuffix(".exe") for _, _, word in words]
        at = next((place for place, name in enumerate(names) if name in _PROGRAMS), None)
        if at is None:
            continue
        rest = words[at + 1 :]
        if names[at] == "kubectl":
            yield from _kubectl(rest)
        elif names[at] == "skopeo":
            yield from _skopeo(rest)
        else:
            yield from _pulled(names[at], rest)


def _commands(text: str) -> Iterator[list[Word]]:
    """Split a text into words, and those where one command ends and another begins."""
    words: list[Word] = []
    for found in _WORD.finditer(text):
        group = found.lastgroup
        if group == "end":
            yield words
            words = []
        elif group:
            words.append((*found.span(group), found[group]))
    yield words


def _pulled(program: str, words: Sequence[Word]) -> Iterator[Span]:
    verb, rest = _verb(words)
    if verb not in _ONLY.get(program, {verb}):
        return
    if verb in _ALL:
        yield from _positional(rest, _WITH_VALUE - (_TAGS if program in _HAVE_TAGS else set()))
    elif verb in _FIRST | _RUNS:
        has_many = verb in _RUNS or verb == "from"
        yield from [*_positional(rest, None if has_many else _WITH_VALUE)][:1]


def _verb(words: Sequence[Word]) -> tuple[str, Sequence[Word]]:
    """Return the command that a program is given, with its group, and what comes after it."""
    skipped = False
    group = ""
    for place, (_, _, word) in enumerate(words):
        if skipped:
            skipped = False
        elif word.startswith("-"):
            skipped = word in _WITH_VALUE
        elif word in _GROUPS:
            group = f"{word} "
        else:
            return f"{group}{word}", words[place + 1 :]
    return "", ()


def _positional(words: Sequence[Word], known: Collection[str] | None) -> Iterator[Span]:
    """Give what is no option and no option's value, up to where the shell takes over.

    `known` are the options with a value, or None where nearly all have one.
    """
    skipped = False
    for start, end, word in words:
        if word.startswith(("#", ">", "<")):
            return
        if skipped:
            skipped = False
        elif word.startswith("-"):
            skipped = _takes_value(word) if known is None else word in known
        else:
            yield start, end


def _takes_value(option: str) -> bool:
    """Tell whether the next word belongs to an option of `run`."""
    if option.startswith("--"):
        return "=" not in option and option not in _WITHOUT_VALUE
    letters = option[1:]
    first = next((at for at, one in enumerate(letters) if one not in _LETTERS_WITHOUT_VALUE), None)
    # In `-p80:80` the value follows at once.
    return first is not None and first == len(letters) - 1


def _skopeo(words: Sequence[Word]) -> Iterator[Span]:
    """Give what is read; what comes second is where `copy` writes."""
    for start, end, word in words:
        if _TRANSPORT.match(word):
            if word.startswith("docker://"):
                yield start + len("docker://"), end
            return


def _kubectl(words: Sequence[Word]) -> Iterator[Span]:
    """Give what `run` and `create` have in `--image`, and `set image` after a container's name."""
    sets = [word for _, _, word in words if not word.startswith("-")][:2] == ["set", "image"]
    after = False
    for start, end, word in words:
        if word.startswith("--image="):
            yield start + len("--image="), end
        elif after or (sets and "=" in word and not word.startswith("-")):
            yield (start if after else start + word.index("=") + 1), end
        after = word == "--image"
