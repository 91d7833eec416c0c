"""Find image names in commands, Dockerfiles, and YAML or JSON (compose, Kubernetes, CI jobs).

Each `find_..._spans` function yields the (start, end) offsets of the image names in a text.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

# Commands: `docker pull`, `docker run`, and their equivalents in other clients.

Span = tuple[int, int]
Word = tuple[int, int, str]
"""The start, end and text of a word, without its quotes."""

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
"""Commands that read one image, with their group; `inspect` in other groups reads none."""

_ONLY: Final = {"buildah": frozenset({"pull", "from"}), "crictl": frozenset({"pull"})}
"""Programs in which only these commands pull; their other commands mean something else."""

_WITH_VALUE: Final = frozenset({
    "-H", "--host", "--context", "--config", "-l", "--log-level", "-n", "--namespace",
    "-a", "--address", "--root", "--runroot", "--storage-driver", "--platform", "--creds",
    "--authfile", "--cert-dir", "--arch", "--os", "--variant", "--policy", "-u", "--user",
    "--snapshotter", "--hosts-dir", "--tlscacert", "--retry", "--retry-delay", "--label",
    "--auth", "--format", "-f", "-r", "--runtime-endpoint", "--image-endpoint", "-i",
})  # fmt: skip
"""Options that take a value, before any command and in the commands that have few options."""

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
"""Programs in which `pull -a` means all tags; in the others `-a` takes a value."""

_LETTERS_WITHOUT_VALUE: Final = frozenset("diPqt")
"""Short options of `run` and `create` that take no value; nearly all others take one."""


def find_command_spans(text: str) -> Iterator[Span]:
    """Yield the span of each image that a command in the text would pull."""
    for words in _split_commands(text):
        names = [word.rpartition("/")[2].removesuffix(".exe") for _, _, word in words]
        at = next((place for place, name in enumerate(names) if name in _PROGRAMS), None)
        if at is None:
            continue
        rest = words[at + 1 :]
        if names[at] == "kubectl":
            yield from _find_kubectl(rest)
        elif names[at] == "skopeo":
            yield from _find_skopeo(rest)
        else:
            yield from _find_pulled(names[at], rest)


def _split_commands(text: str) -> Iterator[list[Word]]:
    """Yield the words of each command of a text: lines, and parts separated by `;`, `&` or `|`."""
    words: list[Word] = []
    for found in _WORD.finditer(text):
        group = found.lastgroup
        if group == "end":
            yield words
            words = []
        elif group:
            words.append((*found.span(group), found[group]))
    yield words


def _find_pulled(program: str, words: Sequence[Word]) -> Iterator[Span]:
    verb, rest = _split_verb(words)
    if verb not in _ONLY.get(program, {verb}):
        return
    if verb in _ALL:
        yield from _find_positional(rest, _WITH_VALUE - (_TAGS if program in _HAVE_TAGS else set()))
    elif verb in _FIRST | _RUNS:
        has_many = verb in _RUNS or verb == "from"
        yield from [*_find_positional(rest, None if has_many else _WITH_VALUE)][:1]


def _split_verb(words: Sequence[Word]) -> tuple[str, Sequence[Word]]:
    """Return a program's subcommand with its group, and the words after it."""
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


def _find_positional(words: Sequence[Word], known: Collection[str] | None) -> Iterator[Span]:
    """Yield the spans of positional arguments, up to a comment or redirection of the shell.

    `known` are the options that take a value, or None if nearly all do.
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
    """Return whether the next word is the value of this option of `run`."""
    if option.startswith("--"):
        return "=" not in option and option not in _WITHOUT_VALUE
    letters = option[1:]
    first = next((at for at, one in enumerate(letters) if one not in _LETTERS_WITHOUT_VALUE), None)
    # In `-p80:80` the value is part of the same word.
    return first is not None and first == len(letters) - 1


def _find_skopeo(words: Sequence[Word]) -> Iterator[Span]:
    """Yield the first `docker://` image; the second one is where `copy` writes."""
    for start, end, word in words:
        if _TRANSPORT.match(word):
            if word.startswith("docker://"):
                yield start + len("docker://"), end
            return


def _find_kubectl(words: Sequence[Word]) -> Iterator[Span]:
    """Yield the images in `--image` of `run` and `create`, and in `set image container=image`."""
    sets = [word for _, _, word in words if not word.startswith("-")][:2] == ["set", "image"]
    after = False
    for start, end, word in words:
        if word.startswith("--image="):
            yield start + len("--image="), end
        elif after or (sets and "=" in word and not word.startswith("-")):
            yield (start if after else start + word.index("=") + 1), end
        after = word == "--image"


# Dockerfiles.

_SYNTAX: Final = re.compile(r"(?im)^[ \t]*#[ \t]*syntax[ \t]*=[ \t]*(?P<image>\S+)[ \t]*$")
_FROM: Final = re.compile(
    r"(?im)^[ \t]*FROM[ \t]+(?:--[^\s]+[ \t]+)*(?P<image>[^\s-]\S*)"
    r"(?:[ \t]+AS[ \t]+(?P<stage>\S+))?[ \t]*$"
)
_ARG: Final = re.compile(r"(?im)^[ \t]*ARG[ \t]+(?P<all>\S.*)$")
_DEFAULT: Final = re.compile(
    r"(?<!\S)(?P<name>[A-Za-z_]\w*)=(?P<quote>[\"']?)(?P<image>[^\s\"']+)(?P=quote)(?!\S)"
)
_COPY: Final = re.compile(
    r"(?im)^[ \t]*(?:ONBUILD[ \t]+)?COPY[ \t]+(?:--\S+[ \t]+)*?--from=(?P<image>\S+)"
)
_MOUNT: Final = re.compile(r"--mount=\S+")
_MOUNTED: Final = re.compile(r"(?:(?<=,)|(?<=--mount=))from=(?P<image>[^\s,]+)")
_WHOLE_VARIABLE: Final = re.compile(r"\$(?:\{(\w++)[^{}]*+\}|(\w++))")
_ESCAPE: Final = re.compile(r"(?im)\A(?:[ \t]*#.*\n)*?[ \t]*#[ \t]*escape[ \t]*=[ \t]*`[ \t]*$")
_TAKES_HEREDOCS: Final = re.compile(r"(?i)[ \t]*(?:ONBUILD[ \t]+)?(?:RUN|COPY|ADD)[ \t]")
_HEREDOC: Final = re.compile(
    r"(?<!\S)\d*<<(?P<dash>-?)(?P<quote>[\"']?)(?P<word>\w+)(?P=quote)(?!\S)"
)


def find_dockerfile_spans(text: str) -> Iterator[Span]:
    """Yield the span of each image in a Dockerfile, except the names of earlier stages.

    The span is the default's if an image is a variable with one in an ARG before the first FROM.
    """
    flat = _flatten(text)
    bases = list(_FROM.finditer(flat))
    if not bases:
        return
    defaults = {
        found["name"]: found.span("image")
        for line in _ARG.finditer(flat, 0, bases[0].start())  # later ones belong to a stage
        for found in _DEFAULT.finditer(flat, *line.span("all"))
    }
    stages = {"scratch"}
    for base in bases:
        variable = _WHOLE_VARIABLE.fullmatch(base["image"])
        default = defaults.get(variable[1] or variable[2]) if variable else None
        start, end = default or base.span("image")
        if flat[start:end].lower() not in stages:
            yield start, end
        if base["stage"]:
            stages.add(base["stage"].lower())
    for found in [*_COPY.finditer(flat), *_find_mounted(flat)]:
        name = found["image"]
        if name.lower() not in stages and not name.isdecimal():
            yield found.span("image")
    if syntax := _SYNTAX.search(text):
        yield syntax.span("image")


def _find_mounted(text: str) -> Iterator[re.Match[str]]:
    for mount in _MOUNT.finditer(text):
        yield from _MOUNTED.finditer(text, *mount.span())


def _flatten(text: str) -> str:
    """Return a text of the same length with each instruction on one line.

    Blanks replace the escapes and ends of continued lines, the lines of here-documents, and the
    comments between continued lines.
    """
    escape = "`" if _ESCAPE.match(text) else "\\"
    flat: list[str] = []
    heredocs: list[re.Match[str]] = []
    begun = ""
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if heredocs:
            if _ends_heredoc(heredocs[0], bare):
                del heredocs[0]
            flat.append(" " * len(bare) + line[len(bare) :])
        elif begun and (not bare.strip() or bare.lstrip().startswith("#")):
            flat.append(" " * len(line))
        elif bare.rstrip().endswith(escape) and not bare.lstrip().startswith("#"):
            part = bare.rstrip()[:-1]
            begun += f"{part} "
            flat.append(part.ljust(len(line)))
        else:
            if _TAKES_HEREDOCS.match(begun + bare):
                heredocs = list(_HEREDOC.finditer(begun + bare))
            begun = ""
            flat.append(line)
    return "".join(flat)


def _ends_heredoc(heredoc: re.Match[str], line: str) -> bool:
    return (line.lstrip("\t") if heredoc["dash"] else line) == heredoc["word"]


# YAML and JSON.

_VALUE: Final = r"(?P<image>(?:\$\{[^{}\n]*\}|[^\s\"',{}#])+)"
_KEY: Final = re.compile(
    r"(?:^|(?<=[\s{,]))(?P<key>[\"']?)image(?P=key)[ \t]*:(?:[ \t]+|(?=[\"']))"
    r"(?:&[\w-]+[ \t]+)?"  # an anchor
    rf"(?P<quote>[\"']?){_VALUE}(?P=quote)(?=[\s,}}]|$)"
)
_ACTION: Final = re.compile(rf"^[ \t]*(?:-[ \t]+)?uses:[ \t]+docker://{_VALUE}[ \t]*$")
_JOB: Final = re.compile(rf"^[ \t]*container:[ \t]+(?=\S*[:/]){_VALUE}[ \t]*$")
"""A job's container in GitHub Actions; in other files, `container:` has a plain word."""

_SERVICES: Final = re.compile(r"(?P<indent>[ ]*)services:[ \t]*(?:#.*)?\n?")
_SERVICE: Final = re.compile(
    rf"^[ \t]*-[ \t]+(?:name:[ \t]+)?(?P<quote>[\"']?){_VALUE}(?P=quote)[ \t]*(?:#.*)?$"
)
"""An item of GitLab's `services:`: a name, or a mapping that begins with `name:`."""

_MAPPING: Final = re.compile(r"(?P<indent>[ ]*)(?:-[ ]+)?image:[ \t]*(?:#.*)?\n?")
_NAME: Final = re.compile(
    rf"^[ \t]*(?:name|reference):[ \t]+(?P<quote>[\"']?){_VALUE}(?P=quote)[ \t]*(?:#.*)?$"
)
"""The name in an `image:` that is a mapping, as in GitLab and in Kubernetes image volumes."""

_FLOW: Final = re.compile(
    r"\$\{[^{}\n]*\}|(?P<open>\{)|(?P<close>\})"
    r"|(?:(?<=\{)|(?<=[,\s]))(?:[\"']?build[\"']?[ \t]*:|(?P<image>[\"']?image[\"']?[ \t]*:))"
)
"""The tokens that matter in a flow mapping, `{...}` on one line."""

_OPENING: Final = re.compile(r"(?P<indent>[ ]*)(?P<dashes>(?:-[ ]+)*)(?P<key>[\w\"'./-]*)")


def find_document_spans(text: str) -> Iterator[Span]:
    """Yield the span of each image in YAML or JSON, except an `image:` beside a `build:`.

    Compose builds such an image and gives it that name, so nothing is pulled.
    """
    lines = text.splitlines(keepends=True)
    built, services, named = _find_built(lines), _find_services(lines), _find_image_mappings(lines)
    at = 0
    for number, line in enumerate(lines):
        if number not in built and not line.lstrip().startswith("#"):
            also = [_SERVICE] if number in services else [_NAME] if number in named else []
            only_named = _find_built_in_flow(line)
            for pattern in (_KEY, _ACTION, _JOB, *also):
                for found in pattern.finditer(line):
                    if found.start() not in only_named:
                        yield at + found.start("image"), at + found.end("image")
        at += len(line)


def _find_services(lines: list[str]) -> set[int]:
    """Return the line numbers of the items of `services:` lists (GitLab; compose has mappings)."""
    items: set[int] = set()
    least, column = -1, -1
    # The columns of the key (-1 outside a list), and of the list's dashes (-1 until the first).
    for number, line in enumerate(lines):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if found := _SERVICES.fullmatch(line):
            least, column = len(found["indent"]), -1
        elif least >= 0 and bare.startswith("- ") and (column if column >= 0 else least) <= indent:
            column = indent if column < 0 else column
            if indent == column:
                items.add(number)
        elif column < 0 or indent <= column:
            least = -1
    return items


def _find_image_mappings(lines: list[str]) -> set[int]:
    """Return the numbers of the lines that hold the keys of an `image:` mapping."""
    items: set[int] = set()
    outer, column = -1, -1
    for number, line in enumerate(lines):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if _MAPPING.fullmatch(line):
            outer, column = line.index("image"), -1
        elif 0 <= outer < indent and column in {-1, indent}:
            column = indent
            items.add(number)
        elif indent <= outer:
            outer = -1
    return items


def _find_built_in_flow(line: str) -> set[int]:
    """Return the offsets of each `image:` beside a `build:` in a flow mapping (compose)."""
    if "{" not in line or "build" not in line:
        return set()
    frames, count = [0], 0
    images: list[tuple[int, int]] = []
    building: set[int] = set()
    for found in _FLOW.finditer(line):
        if found["open"]:
            count += 1
            frames.append(count)
        elif found["close"]:
            frames.pop()
            frames = frames or [0]
        elif found["image"]:
            images.append((found.start(), frames[-1]))
        elif found[0][0] != "$" and len(frames) > 1:
            building.add(frames[-1])
    return {place for place, frame in images if frame in building}


def _find_built(lines: list[str]) -> set[int]:
    """Return the numbers of the lines whose `image:` is beside a `build:` (compose)."""
    mappings: list[tuple[int, int]] = []
    # The open mappings: the column of their keys, and a number that identifies each.
    images: list[tuple[int, int]] = []
    building: set[int] = set()
    count = 0
    for number, line in enumerate(lines):
        found = _OPENING.match(line)
        if found is None or not found["key"]:
            continue
        column = found.end("dashes")
        while mappings and (
            mappings[-1][0] > column or (found["dashes"] and mappings[-1][0] == column)
        ):
            mappings.pop()
        if not mappings or mappings[-1][0] < column:
            count += 1
            mappings.append((column, count))
        if found["key"] == "build" and column:  # at the top level, `build` is the name of a job
            building.add(mappings[-1][1])
        if found["key"] == "image":
            images.append((number, mappings[-1][1]))
    return {number for number, mapping in images if mapping in building}
