"""Where secrets are looked for, and what is said where they are not found."""

import os
from pathlib import Path

import pytest

from plugd.catalog import secrets
from plugd.catalog.secrets import find, with_secrets
from plugd.catalog.spec import PluginSpec, Secrets
from plugd.config import ConfigError, PluginConfig, merge, parse, validate
from plugd.hosting.secrets import SecretStore
from plugd.paths import defaults
from plugd.settings import Flags, resolve


def spec(*credentials: str) -> PluginSpec:
    return PluginSpec("vault", "python", "/vault.py", b"", "0" * 64, PluginConfig(credentials=credentials))


def test_the_plain_name_comes_before_the_one_of_a_directory(tmp_path: Path) -> None:
    """systemd.exec(5): "the ID for each credential will be the provided ID suffixed with "_$FILENAME""."""
    (tmp_path / "plugd_token").write_text("directory")
    assert find("token", str(tmp_path)).path == f"{tmp_path}/plugd_token"
    (tmp_path / "token").write_text("plain")
    assert find("token", str(tmp_path)).path == f"{tmp_path}/token"


def test_a_value_is_the_same_by_its_bytes(tmp_path: Path) -> None:
    """Whenever it was written; and its digest is nobody's but this process's."""
    file = tmp_path / "token"
    file.write_text("one")
    first = find("token", str(tmp_path))
    file.unlink()
    file.write_text("one")
    assert find("token", str(tmp_path)) == first
    file.write_text("two")
    assert find("token", str(tmp_path)) != first
    assert b"one" not in first.digest


def test_a_large_value_counts_to_its_last_byte(tmp_path: Path) -> None:
    """It is read in parts."""
    file = tmp_path / "token"
    file.write_bytes(bytes(secrets.MAXIMUM_BYTES))
    first = find("token", str(tmp_path))
    file.write_bytes(bytes(secrets.MAXIMUM_BYTES - 1) + b"\1")
    assert find("token", str(tmp_path)) != first


def test_every_missing_one_is_named(tmp_path: Path) -> None:
    """With the names that it might have had, and the directory."""
    fault = with_secrets(spec("one", "two"), str(tmp_path)).fault or ""
    for name in ("one", "two"):
        assert f"there is no credential {name!r}: neither {name} nor plugd_{name} is in {tmp_path}" in fault


def test_a_fault_that_was_there_before_stays(tmp_path: Path) -> None:
    """A plugin that may not run for another reason says that."""
    found = with_secrets(PluginSpec("vault", "python", "", b"", "", PluginConfig(), "no file"), str(tmp_path))
    assert found.fault == "no file"


def test_where_there_are_none_there_is_nothing_to_guard(tmp_path: Path) -> None:
    """Nor where the daemon cannot read them; otherwise every plugin is kept out, by the real path."""
    assert with_secrets(spec(), str(tmp_path / "none")).secrets == Secrets(None)
    assert with_secrets(spec(), str(tmp_path)).secrets == Secrets(None)
    real = tmp_path / "real"
    real.mkdir()
    (real / "token").write_text("x")
    (tmp_path / "link").symlink_to(real)
    assert with_secrets(spec(), str(tmp_path / "link")).secrets == Secrets(str(real))


def test_other_secrets_are_another_confinement(tmp_path: Path) -> None:
    """So that a reload makes a new worker, and gives nothing to one that runs."""
    (tmp_path / "token").write_text("one")
    first, same = (with_secrets(spec("token"), str(tmp_path)) for _ in range(2))
    assert first.same_code(same)
    (tmp_path / "token").write_text("two")
    other = with_secrets(spec("token"), str(tmp_path))
    assert not first.same_confinement(other)
    assert not first.same_code(other)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('"password"', "expected an array of names"),
        ("[1]", "no name of a credential"),
        ('["../shadow"]', "no name of a credential"),
        ('[".."]', "no name of a credential"),
        ('[""]', "no name of a credential"),
        ('["a b"]', "no name of a credential"),
        (f"{[f'c{number}' for number in range(65)]}", "65 credentials; at most 64"),
    ],
)
def test_what_is_no_list_of_names_is_refused(value: str, reason: str) -> None:
    """Before anything is looked for: a name is that of a file in one directory."""
    with pytest.raises(ConfigError, match=reason):
        validate(merge([parse(f"[plugins.x]\ncredentials = {value}".encode(), "plugd.toml")]))


def test_names_count_once() -> None:
    config = validate(merge([parse(b'[plugins.x]\ncredentials = ["b", "a", "b"]', "plugd.toml")]))
    assert config.plugins["x"].credentials == ("b", "a")


def test_systemds_directory_comes_before_the_one_beside_the_configuration(tmp_path: Path) -> None:
    """And what the configuration says before both."""
    assert defaults({}, 0).credentials_dir == "/etc/plugd/credentials"
    assert defaults({"CREDENTIALS_DIRECTORY": "/run/credentials/x"}, 0).credentials_dir == "/run/credentials/x"
    assert defaults({}, 0).runtime_dir == "/run/plugd"
    config = tmp_path / "plugd.toml"
    config.write_text('credentials_dir = "/srv/secrets"\n')
    environ = {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}
    assert resolve(Flags(config=str(config)), environ, os.getuid()).credentials_dir == "/srv/secrets"


def test_a_place_that_others_own_is_not_used(tmp_path: Path) -> None:
    """Whose it is, could put another directory in its place."""
    if os.getuid() != 0:
        pytest.skip("only root can give a directory away")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "token").write_text("x")
    runtime = tmp_path / "run"
    runtime.mkdir()
    os.chown(runtime, 65534, 65534)
    found = with_secrets(spec("token"), str(tmp_path / "credentials"))
    with SecretStore(str(runtime)) as store, pytest.raises(Exception, match="belongs to somebody else"):
        store.give(found)
    assert list(runtime.iterdir()) == []


def test_a_copy_is_its_workers_alone(tmp_path: Path) -> None:
    """Nobody else may look into its directory, and it may not write it."""
    (tmp_path / "token").write_text("x")
    with SecretStore(str(tmp_path / "run")) as store:
        given = store.give(with_secrets(spec("token"), str(tmp_path)))
        assert given is not None
        assert Path(given).stat().st_mode & 0o007 == 0
        assert Path(given, "token").stat().st_mode & 0o777 == 0o400
        assert Path(given, "token").read_text() == "x"
        store.take_back(given)
        assert not Path(given).exists()
        store.give(with_secrets(spec("token"), str(tmp_path)))
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == []
