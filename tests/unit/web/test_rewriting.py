"""What one types comes back as it is to be typed for this proxy."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.oci.reference import NAME_LIMIT, RepositoryName
from app.registries import Registry
from app.web.images import parse_image_name
from app.web.proxy import Proxy
from app.web.rewriting import SkipReason, rewrite_text
from tests.unit.web.tables import ALL, ALONE, GHCR_HOST, HOSTS, OWN, USUAL

DIGEST = f"sha256:{'a1' * 32}"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("nginx", "proxy.example/nginx"),
        ("nginx:1.27", "proxy.example/nginx:1.27"),
        (f"nginx:1@{DIGEST}", f"proxy.example/nginx:1@{DIGEST}"),
        (f"nginx@{DIGEST}", f"proxy.example/nginx@{DIGEST}"),
        ("owner/app", "proxy.example/owner/app"),
        ("docker.io/nginx", "proxy.example/nginx"),
        ("docker.io/library/nginx", "proxy.example/library/nginx"),
        ("index.docker.io/owner/app", "proxy.example/owner/app"),
        ("ghcr.io/owner/app:1", "proxy.example/ghcr.io/owner/app:1"),
        ("GHCR.io/owner/app", "proxy.example/ghcr.io/owner/app"),
        ("quay.io:443/owner/app", "proxy.example/quay.io/owner/app"),
        ("registry.k8s.io/pause:3.10", "proxy.example/registry.k8s.io/pause:3.10"),
        ("mcr.microsoft.com/dotnet/sdk", "proxy.example/mcr.microsoft.com/dotnet/sdk"),
        ("harbor.example/a/b/c", "proxy.example/harbor.example/a/b/c"),
        ("  nginx \n", "  proxy.example/nginx \n"),
        ("nginx\nredis:7\n", "proxy.example/nginx\nproxy.example/redis:7\n"),
        ("nginx\r\nredis\r\n", "proxy.example/nginx\r\nproxy.example/redis\r\n"),
        # No images
        ("", ""),
        ("Nginx", "Nginx"),
        ("nginx redis", "nginx redis"),
        ("a" * 64, "a" * 64),
        ("https://hub.docker.com/_/nginx", "https://hub.docker.com/_/nginx"),
        ("<script>", "<script>"),
        ("not an image\nnginx", "not an image\nnginx"),
    ],
)
def test_names(typed: str, meant: str) -> None:
    """A name, or one in each line."""
    assert rewrite_text(typed, USUAL).text == meant


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("other.example/app", SkipReason.NOT_SERVED),
        ("localhost:5000/app", SkipReason.NOT_SERVED),
        ("localhost/app", SkipReason.NOT_SERVED),
        ("ghcr.io:8443/owner/app", SkipReason.NOT_SERVED),
        ("proxy.example/nginx", SkipReason.ALREADY_PROXIED),
        (f"{GHCR_HOST}/owner/app", SkipReason.ALREADY_PROXIED),
        ("nowhere.example:5000/app", SkipReason.NOT_SERVED),
    ],
)
def test_what_is_left(typed: str, why: SkipReason) -> None:
    """It is said why."""
    proxy = OWN if "nowhere" in typed else HOSTS
    done = rewrite_text(typed, proxy)
    assert (done.text, done.changes, done.left) == (typed, (), ((typed, why),))


def test_a_registry_with_a_host() -> None:
    """Its logins count there, and so its images are called by it; there, no others have a name."""
    assert rewrite_text("ghcr.io/owner/app", HOSTS).text == f"{GHCR_HOST}/owner/app"
    assert rewrite_text("ghcr.io/owner/app", ALONE).text == f"{GHCR_HOST}/owner/app"
    assert rewrite_text("nginx", ALONE).left == (("nginx", SkipReason.NOT_SERVED),)


def test_another_default_registry() -> None:
    """Docker Hub is then called by its name, and aliases are what they stand for."""
    assert rewrite_text("nginx", OWN).text == "proxy.example/docker.io/nginx"
    assert rewrite_text("company.example/app", OWN).text == "proxy.example/app"
    assert rewrite_text("10.0.0.5:5000/app", OWN).text == "proxy.example/old/app"
    assert rewrite_text("lscr.io/owner/app", OWN).text == "proxy.example/ghcr.io/owner/app"


COMMANDS = """
docker pull {nginx}
$ sudo docker pull -q --platform linux/arm64 {nginx:1}
docker image pull {nginx} && docker pull {ghcr.io/owner/app:1}; podman pull {a/b} {c/d}
docker --context far -H unix:///x run -it --rm -p 80:80 -v "$PWD:/a b" --name=x {nginx:1} sh -g
docker run -dp80:80 -e A=b --mount type=bind,source=/a,target=/b '{nginx}' sh -c "docker pull x"
docker run --rm -i --init --network host --entrypoint sh "{alpine}" -c 'echo; nginx'
docker create --gpus all {nginx} | tee id
docker run \\
  --rm \\
  -u 1000:1000 \\
  {quay.io/owner/app} \\
  nginx
/usr/bin/docker buildx imagetools inspect --raw {nginx}
nerdctl -n k8s.io pull {ghcr.io/owner/app:1}
crictl -r unix:///run/c.sock pull {registry.k8s.io/pause:3.10}
ctr -n k8s.io images pull --snapshotter native {docker.io/library/nginx:latest}
buildah from --name x {alpine}
skopeo copy --all docker://{nginx} docker://other.example/nginx
skopeo inspect docker://{quay.io/owner/app}
kubectl create deployment web --image={nginx}
kubectl run web --image {nginx:1} --port=80
kubectl set image deployment/web web={nginx:1} -n default
docker run {nginx:${{VERSION:-1}}}
docker run ${{IMAGE}}
docker run ${{IMAGE:-{nginx}}}
docker run -d -- {nginx} -- redis
docker pull -a {nginx}
docker.exe pull {nginx}
docker service create --name web --replicas 2 -dq {nginx:1} sleep 1
docker image inspect -f x {nginx}
docker manifest inspect {nginx}
ctr -n k8s.io c create --net-host {docker.io/library/alpine:3} one
docker inspect web
docker container inspect web
docker buildx create --name far context
docker buildx imagetools create -t owner/app:1 owner/app:2
buildah run web dnf
crictl run container.json pod.json
crictl pull -a x=y {nginx}
skopeo copy dir:/x docker://nginx
skopeo copy --src-creds a:b docker-daemon:x docker://nginx
docker pull other.example/x
docker push nginx
docker build -t nginx .
docker ps nginx
docker --version
echo nginx
"""

DOCKERFILE = f"""
# syntax={{docker/dockerfile:1}}
ARG BASE={{alpine:3}}
ARG OTHER=nginx
FROM --platform=$BUILDPLATFORM {{golang:${{VERSION}}-alpine}} AS build
RUN --mount=type=bind,from={{quay.io/owner/app}},target=/x --mount=type=cache,target=/y go build
RUN docker pull {{nginx}}
from Build as test
FROM scratch AS empty
FROM ${{BASE}}
FROM {{ghcr.io/owner/app@{DIGEST}}}
COPY --from=build --chown=1:1 /a /b
COPY --from=0 /a /b
COPY --chown=1:1 --from={{busybox:1}} /a /b
COPY nginx /b
""".replace("${BASE}", "${{BASE}}").replace("${VERSION}", "${{VERSION}}")

DOCKERFILES = [
    """
ARG A={nginx} B='{redis:7}' C=build
FROM ${{A}} AS build
FROM $B
FROM ${{C}}
FROM ${{D:-{alpine}}}
FROM ${{E}}
ARG A=other
""",
    """
FROM \\
  # why this one
  --platform=linux/arm64 \\

  {quay.io/owner/app:1} \\
  AS Late
RUN <<-"EOF" cat
FROM nginx
\tEOF
FROM late
ONBUILD COPY --from={redis:7} /a /b
RUN <<ONE cat <<-TWO \\
  id
FROM nginx
ONE
\tFROM nginx
\tTWO
RUN cat <<<EOF
FROM {nginx}
""",
    """# escape=`
FROM `
  {nginx}
COPY --from=0 c:\\ d:\\
FROM {redis}
""",
]

COMPOSE = """
services:
  web:
    image: {nginx:1}  # the front
    depends_on:
      - db
    ports:
      - 80:80
  db:
    image: "{postgres:${{TAG:-16}}}"
  app:
    build:
      context: .
      args:
        image: {redis}
    image: company/app
  flow: {{build: {{context: .}}, image: company/flow}}
  other: {{image: {nginx}, environment: {{build: x}}, x: ${{Y}}}}
  default:
    image: ${{IMAGE:-{nginx:1}}}
  late:
    image: company/late
    build: .
  quoted:
    image: '{ghcr.io/owner/app:1}'
  # image: nginx
  unknown:
    image: ${{IMAGE}}
volumes:
  image: {{}}
"""

KUBERNETES = """
apiVersion: v1
kind: Pod
spec:
  initContainers:
    - image: {busybox}
      name: first
  containers:
    - name: web
      image: {registry.k8s.io/pause:3.10}
      imagePullPolicy: Always
    - {{name: b, image: {quay.io/owner/app}, args: [image]}}
  volumes:
    - name: files
      image:
        reference: {quay.io/owner/files:1}
        pullPolicy: Always
---
{{"spec":{{"containers":[{{"name":"a","image":"{nginx:1}"}},{{"image": "{alpine}"}}]}}}}
---
image:
  repository: nginx
"""

CI = """
jobs:
  plain:
    container: {node:20}
  web:
    container: web
  build:
    container:
      image: &node {node:20}
    steps:
      - uses: docker://{alpine:3}
      - uses: actions/checkout@v4
      - run: docker pull {nginx}
"""


GITLAB = """
image: "{alpine:3}"
services:
  - {postgres:16}  # the database
  # - nginx
  - name: {docker:dind}
    alias: docker
    command: ["--tls=false"]
  - alias: other
    name: nginx
test:
  image:  # a mapping
    name: "{ruby:3}"
    entrypoint: [""]
    docker:
      name: nginx
  name: nginx
build:
  services:
  - {quay.io/owner/app}
  script:
    - make
    - docker pull {redis:7}
  tags:
    - nginx
"""

LINES = [line.replace("\0", "\\\n") for line in COMMANDS.strip().replace("\\\n", "\0").split("\n")]
MARKED = re.compile(r"(?<!\{)\{([a-z][^{}\s]*(?:\{\{[^{}]*\}\}[^{}\s]*)?)\}")


@pytest.mark.parametrize(
    "text", [*LINES, DOCKERFILE, *DOCKERFILES, COMPOSE, KUBERNETES, CI, GITLAB]
)
def test_texts(text: str) -> None:
    """What stands in braces is rewritten, and nothing else; a second time, nothing at all."""
    typed = plain(MARKED.sub(r"\1", text))
    meant = plain(MARKED.sub(lambda found: f"proxy.example/{shortened(found[1])}", text))
    assert rewrite_text(typed, USUAL).text == meant
    assert rewrite_text(meant, USUAL).text == meant


def shortened(name: str) -> str:
    """Return a name as it stands behind this proxy's own."""
    return name.removeprefix("docker.io/")


def plain(template: str) -> str:
    """Return a text with single braces where it has double ones."""
    return template.replace("{{", "{").replace("}}", "}")


COMPONENT = st.from_regex(r"\A[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,5})?\Z")
REPOSITORIES = st.lists(COMPONENT, min_size=1, max_size=4).map("/".join)
VERSIONS = st.sampled_from(["", ":1.27-alpine", f"@{DIGEST}", f":latest@{DIGEST}"])


def rows(proxy: Proxy) -> st.SearchStrategy[tuple[str, Registry]]:
    """Give a name of a registry, and the registry."""
    return st.sampled_from([*proxy.list_mirrored()])


@given(st.data(), st.sampled_from(sorted(ALL)), REPOSITORIES, VERSIONS)
def test_it_means_the_same(data: st.DataObject, key: str, repository: str, version: str) -> None:
    """What comes back leads to the registry and the repository that were meant, or says why not."""
    proxy = ALL[key]
    name, row = data.draw(rows(proxy))
    doubled = repository if ":" in name else f"{name}/{repository}"
    written = data.draw(st.sampled_from([repository, doubled]))
    done = rewrite_text(f"{name}/{written}{version}", proxy)
    if done.left:
        assert done.text == f"{name}/{written}{version}"
        return
    host, _, asked = done.text.removesuffix(version).partition("/")
    host = host.partition(":")[0]
    found = proxy.registries.resolve(RepositoryName(asked), ns=None, host=host)
    assert found.registry is row
    assert found.repository == row.complete_name(written)
    assert rewrite_text(done.text, proxy).text == done.text


@given(st.text(alphabet=st.sampled_from("a/:.@-${}'\"\\ \n=FROM,#&;|*<>imagedocker"), max_size=200))
def test_nothing_else_is_touched(text: str) -> None:
    """Whatever is typed, only what is told as changed differs."""
    done = rewrite_text(text, USUAL)
    turned = done.text
    for old, new in sorted(done.changes, key=lambda pair: -len(pair[1])):
        turned = turned.replace(new, old)
    assert len(turned) == len(text)
    assert all(parse_image_name(old) for old, _ in done.changes)


def test_the_longest_name() -> None:
    """A name that would be too long with its prefix has no address here."""
    name = "a/" + "a" * (NAME_LIMIT - 4)
    assert rewrite_text(f"quay.io/{name}", USUAL).left == (
        (f"quay.io/{name}", SkipReason.NOT_SERVED),
    )
    assert rewrite_text(name, USUAL).text == f"proxy.example/{name}"
