"""Logins of real clients at one Docxy of many registries: whose they are, and who sees them."""

import pytest

from tests.clients.process import CommandFailed
from tests.integration.pulling import TABLE
from tests.integration.registry_table import (
    ALICE,
    CAROL,
    PRIVATE,
    REFUSED,
    Fresh,
    Served,
    Watch,
    known_at,
)
from tests.lines import all_lines

pytestmark = pytest.mark.integration

every_client = pytest.mark.parametrize("name", TABLE)


@every_client
def test_a_login_is_the_default_registrys(name: str, served: Served, fresh: Fresh) -> None:
    """It opens private images there; by prefix, images come as before, and nobody hears of it.

    Carol has the same password everywhere, and it opens nothing that it was not typed for.
    """
    client = fresh(name, served.way())
    client.log_in(*CAROL)
    hubs = served.hubs
    private = client.kept(hubs["docker.io"].image("alice/private", "1"))
    assert client.pull(f"{served.host}/{PRIVATE}") == private
    assert client.pull(f"{served.host}/docker.io/{PRIVATE}") == private
    for other in ("ghcr.io", "quay.io", "plain.test"):
        image = hubs[other].image("owner/app", "1")
        assert client.pull(f"{served.host}/{other}/owner/app:1") == client.kept(image)
    for other in ("ghcr.io", "quay.io"):
        assert hubs[other].count("token") > 0
        with pytest.raises(CommandFailed) as failure:
            client.pull(f"{served.host}/{other}/{PRIVATE}")
        assert REFUSED.search(failure.value.output)
        assert known_at(hubs[other]) == set()
    assert "carol" in known_at(hubs["docker.io"])


@every_client
def test_a_login_by_host(name: str, served: Served, fresh: Fresh) -> None:
    """A login at the host of a registry opens its private images; no other registry is asked."""
    client = fresh(name, served.way(served.named_host))
    client.log_in("alice", ALICE["ghcr.io"])
    image = served.hubs["ghcr.io"].image("alice/private", "1")
    assert client.pull(f"{served.named_host}/{PRIVATE}") == client.kept(image)
    served.assert_only("ghcr.io")


@every_client
def test_prefix_login(name: str, served: Served, fresh: Fresh) -> None:
    """With `prefix_login`, a password at the default registry opens the other one as well.

    Where the default registry gives no refresh tokens, Docker has the password to send.
    """
    served.hubs["docker.io"].token_fields = ("token", "access_token", "expires_in", "issued_at")
    client = fresh(name, served.way())
    client.log_in(*CAROL)
    image = served.hubs["shared.test"].image("alice/private", "1")
    assert client.pull(f"{served.host}/shared.test/{PRIVATE}") == client.kept(image)
    basic = served.hubs["basic.test"].image("alice/private", "1")
    assert client.pull(f"{served.host}/basic.test/{PRIVATE}") == client.kept(basic)
    assert known_at(served.hubs["quay.io"]) == set()


@pytest.mark.parametrize("name", ["docker", "docker-containerd"])
def test_prefix_login_with_a_refresh_token(name: str, served: Served, fresh: Fresh) -> None:
    """Docker keeps a refresh token, where it gets one, and that is good for its registry alone.

    So by prefix it stands for nobody, with `prefix_login` as well.
    """
    client = fresh(name, served.way())
    client.log_in(*CAROL)
    before = len(served.proxy.log)
    shared = served.hubs["shared.test"]
    image = shared.image("owner/app", "1")
    assert client.pull(f"{served.host}/shared.test/owner/app:1") == client.kept(image)
    assert "method=POST path=/auth/token status=200" in all_lines(served.proxy)[before:]
    for registry in ("shared.test", "basic.test"):
        with pytest.raises(CommandFailed) as failure:
            client.pull(f"{served.host}/{registry}/{PRIVATE}")
        assert REFUSED.search(failure.value.output)
        assert known_at(served.hubs[registry]) == set()


@pytest.mark.parametrize("name", [name for name in TABLE if name != "ctr"])
def test_a_wrong_password_by_host(name: str, served: Served, fresh: Fresh) -> None:
    """The password of the default registry is none at another one, which says so."""
    client = fresh(name, served.way(served.named_host))
    with pytest.raises(CommandFailed):
        client.log_in("alice", ALICE["docker.io"])
    assert served.hubs["ghcr.io"].count("token", status=401) > 0
    served.assert_only("ghcr.io")


@every_client
def test_basic_without_prefix_login(name: str, served: Served, fresh: Fresh) -> None:
    """A registry that takes Basic credentials only, and may not get them, refuses: at once."""
    client = fresh(name, served.way())
    client.log_in(*CAROL)
    served.forget()
    with pytest.raises(CommandFailed) as failure:
        client.pull(f"{served.host}/closed.test/owner/app:1")
    assert REFUSED.search(failure.value.output)
    closed = served.hubs["closed.test"]
    assert known_at(closed) == set()
    assert 0 < closed.count("registry", path="^/v2/owner/app/manifests/") <= 5


@every_client
def test_basic_as_default(name: str, basic_default: Served, watched: Watch, fresh: Fresh) -> None:
    """A default registry that takes Basic credentials only gets the client's, and alone."""
    served = watched(basic_default)
    client = fresh(name, served.way())
    client.log_in("alice", ALICE["basic.test"])
    image = served.hubs["basic.test"].image("alice/private", "1")
    assert client.pull(f"{served.host}/{PRIVATE}") == client.kept(image)
    served.assert_only("basic.test")


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_host_beside_a_basic_default(
    name: str, basic_default: Served, watched: Watch, fresh: Fresh
) -> None:
    """A registry with tokens and a host of its own works where the default one has none."""
    served = watched(basic_default)
    client = fresh(name, served.way(served.named_host))
    client.log_in("alice", ALICE["ghcr.io"])
    image = served.hubs["ghcr.io"].image("alice/private", "1")
    assert client.pull(f"{served.named_host}/{PRIVATE}") == client.kept(image)
    served.assert_only("ghcr.io")


@pytest.mark.parametrize("name", ["docker", "docker-containerd", "podman", "skopeo"])
def test_a_default_without_tokens(
    name: str, plain_default: Served, watched: Watch, fresh: Fresh
) -> None:
    """Beside a default registry that needs no token, one that is managed works by prefix.

    One that takes logins works by its host.
    """
    served = watched(plain_default)
    client = fresh(name, served.way(served.named_host))
    client.log_in("alice", ALICE["ghcr.io"])
    for host, registry in (
        (f"{served.host}/quay.io", "quay.io"),
        (served.named_host, "ghcr.io"),
    ):
        image = served.hubs[registry].image("alice/private", "1")
        assert client.pull(f"{host}/{PRIVATE}") == client.kept(image)
    image = served.hubs["plain.test"].image("owner/app", "1")
    assert client.pull(f"{served.host}/owner/app:1") == client.kept(image)
    assert known_at(served.hubs["plain.test"]) == set()
