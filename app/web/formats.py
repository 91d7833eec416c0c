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
_PULLS: Final = frozenset({"pull", "image pull", "images pull", "i pull"})
_RUNS: Final = frozenset({
    "run", "create", "container run", "container create", "containers create", "c create",
    "service create",
})  # fmt: skip
_ONE_IMAGE: Final = frozenset({"from", "image inspect", "imagetools inspect", "manifest inspect"})
"""Commands that read one image, with their group; `inspect` in other groups reads none."""

_COMMANDS_OF: Final = {"buildah": frozenset({"pull", "from"}), "crictl": frozenset({"pull"})}
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
        index = next((i for i, name in enumerate(names) if name in _PROGRAMS), None)
        if index is None:
            continue
        rest = words[index + 1 :]
        if names[index] == "kubectl":
            yield from _find_kubectl(rest)
        elif names[index] == "skopeo":
            yield from _find_skopeo(rest)
        else:
            yield from _find_pulled(names[index], rest)


def _split_commands(text: str) -> Iterator[list[Word]]:
    """Yield the words of each command of a text: lines, and parts separated by `;`, `&` or `|`."""
    words: list[Word] = []
    for match in _WORD.finditer(text):
        group = match.lastgroup
        if group == "end":
            yield words
            words = []
        elif group:
            words.append((*match.span(group), match[group]))
    yield words


def _find_pulled(program: str, words: Sequence[Word]) -> Iterator[Span]:
    verb, rest = _split_verb(words)
    if verb not in _COMMANDS_OF.get(program, {verb}):
        return
    if verb in _PULLS:
        yield from _find_positional(rest, _WITH_VALUE - (_TAGS if program in _HAVE_TAGS else set()))
    elif verb in _ONE_IMAGE | _RUNS:
        has_many = verb in _RUNS or verb == "from"
        yield from [*_find_positional(rest, None if has_many else _WITH_VALUE)][:1]


def _split_verb(words: Sequence[Word]) -> tuple[str, Sequence[Word]]:
    """Return a program's subcommand with its group, and the words after it."""
    is_value = False
    group = ""
    for index, (_, _, word) in enumerate(words):
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = word in _WITH_VALUE
        elif word in _GROUPS:
            group = f"{word} "
        else:
            return f"{group}{word}", words[index + 1 :]
    return "", ()


def _find_positional(words: Sequence[Word], valued: Collection[str] | None) -> Iterator[Span]:
    """Yield the spans of positional arguments, up to a comment or redirection of the shell.

    `valued` are the options that take a value, or None if nearly all do.
    """
    is_value = False
    for start, end, word in words:
        if word.startswith(("#", ">", "<")):
            return
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = _takes_value(word) if valued is None else word in valued
        else:
            yield start, end


def _takes_value(option: str) -> bool:
    """Return whether the next word is the value of this option of `run`."""
    if option.startswith("--"):
        return "=" not in option and option not in _WITHOUT_VALUE
    letters = option[1:]
    first = next((i for i, char in enumerate(letters) if char not in _LETTERS_WITHOUT_VALUE), None)
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
    is_set = [word for _, _, word in words if not word.startswith("-")][:2] == ["set", "image"]
    is_value = False
    for start, end, word in words:
        if word.startswith("--image="):
            yield start + len("--image="), end
        elif is_value or (is_set and "=" in word and not word.startswith("-")):
            yield (start if is_value else start + word.index("=") + 1), end
        is_value = word == "--image"


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
        match["name"]: match.span("image")
        for line in _ARG.finditer(flat, 0, bases[0].start())  # later ones belong to a stage
        for match in _DEFAULT.finditer(flat, *line.span("all"))
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
    for match in [*_COPY.finditer(flat), *_find_mounted(flat)]:
        name = match["image"]
        if name.lower() not in stages and not name.isdecimal():
            yield match.span("image")
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
    continued = ""
    for line in text.splitlines(keepends=True):
        content = line.rstrip("\r\n")
        if heredocs:
            if _ends_heredoc(heredocs[0], content):
                del heredocs[0]
            flat.append(" " * len(content) + line[len(content) :])
        elif continued and (not content.strip() or content.lstrip().startswith("#")):
            flat.append(" " * len(line))
        elif content.rstrip().endswith(escape) and not content.lstrip().startswith("#"):
            unfinished = content.rstrip()[:-1]
            continued += f"{unfinished} "
            flat.append(unfinished.ljust(len(line)))
        else:
            if _TAKES_HEREDOCS.match(continued + content):
                heredocs = list(_HEREDOC.finditer(continued + content))
            continued = ""
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
    offset = 0
    for number, line in enumerate(lines):
        if number not in built and not line.lstrip().startswith("#"):
            extra = [_SERVICE] if number in services else [_NAME] if number in named else []
            built_at = _find_built_in_flow(line)
            for pattern in (_KEY, _ACTION, _JOB, *extra):
                for match in pattern.finditer(line):
                    if match.start() not in built_at:
                        yield offset + match.start("image"), offset + match.end("image")
        offset += len(line)


def _find_services(lines: list[str]) -> set[int]:
    """Return the line numbers of the items of `services:` lists (GitLab; compose has mappings)."""
    items: set[int] = set()
    key, dash = -1, -1
    # The columns of the key (-1 outside a list), and of the list's dashes (-1 until the first).
    for number, line in enumerate(lines):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if match := _SERVICES.fullmatch(line):
            key, dash = len(match["indent"]), -1
        elif key >= 0 and content.startswith("- ") and (dash if dash >= 0 else key) <= indent:
            dash = indent if dash < 0 else dash
            if indent == dash:
                items.add(number)
        elif dash < 0 or indent <= dash:
            key = -1
    return items


def _find_image_mappings(lines: list[str]) -> set[int]:
    """Return the numbers of the lines that hold the keys of an `image:` mapping."""
    items: set[int] = set()
    key, child = -1, -1
    for number, line in enumerate(lines):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if _MAPPING.fullmatch(line):
            key, child = line.index("image"), -1
        elif 0 <= key < indent and child in {-1, indent}:
            child = indent
            items.add(number)
        elif indent <= key:
            key = -1
    return items


def _find_built_in_flow(line: str) -> set[int]:
    """Return the offsets of each `image:` beside a `build:` in a flow mapping (compose)."""
    if "{" not in line or "build" not in line:
        return set()
    open_mappings, count = [0], 0
    images: list[tuple[int, int]] = []
    building: set[int] = set()
    for match in _FLOW.finditer(line):
        if match["open"]:
            count += 1
            open_mappings.append(count)
        elif match["close"]:
            open_mappings.pop()
            open_mappings = open_mappings or [0]
        elif match["image"]:
            images.append((match.start(), open_mappings[-1]))
        elif match[0][0] != "$" and len(open_mappings) > 1:
            building.add(open_mappings[-1])
    return {offset for offset, mapping in images if mapping in building}


def _find_built(lines: list[str]) -> set[int]:
    """Return the numbers of the lines whose `image:` is beside a `build:` (compose)."""
    mappings: list[tuple[int, int]] = []
    # The open mappings: the column of their keys, and a number that identifies each.
    images: list[tuple[int, int]] = []
    building: set[int] = set()
    count = 0
    for number, line in enumerate(lines):
        match = _OPENING.match(line)
        if match is None or not match["key"]:
            continue
        column = match.end("dashes")
        while mappings and (
            mappings[-1][0] > column or (match["dashes"] and mappings[-1][0] == column)
        ):
            mappings.pop()
        if not mappings or mappings[-1][0] < column:
            count += 1
            mappings.append((column, count))
        if match["key"] == "build" and column:  # at the top level, `build` is the name of a job
            building.add(mappings[-1][1])
        if match["key"] == "image":
            images.append((number, mappings[-1][1]))
    return {number for number, mapping in images if mapping in building}
