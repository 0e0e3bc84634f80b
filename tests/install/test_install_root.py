"""plugd install and uninstall, as they are installed for the tests, in a file system of their own."""

import os
import re
import stat
from pathlib import Path

import pytest
from harness import BIN, ROOT
from install_rig import MANIFEST, SERVICE, UNITS, Image, changes, needs_systemd, run, snapshot

pytestmark = needs_systemd

SHARE = "usr/local/share"


def test_everything_is_installed(image: Image) -> None:
    """Units, users, directories, the default configuration, completions, pages and links are where they belong."""
    image.plugd("install")
    for source, path in (
        ("plugd.socket", f"{UNITS}/plugd.socket"),
        ("plugd.sysusers", "usr/local/lib/sysusers.d/plugd.conf"),
        ("plugd.tmpfiles", "usr/local/lib/tmpfiles.d/plugd.conf"),
        ("plugd.toml", "etc/plugd/plugd.toml"),
    ):
        assert image.read(path) == (ROOT / "systemd" / source).read_text(), path
    pages = {page.name for page in (ROOT / "docs" / "man").iterdir()}
    assert pages
    for name in pages:
        assert image.exists(f"{SHARE}/man/man{name[-1]}/{name}")
    for path in ("bash-completion/completions/plugctl", "zsh/site-functions/_plugctl",
                 "fish/vendor_completions.d/plugctl.fish"):  # fmt: skip
        assert "reload" in image.read(f"{SHARE}/{path}"), path
    assert (image.root / "etc/plugd/plugins").is_dir()
    assert "\nplugd:" in image.read("etc/passwd")
    assert "\nplugd:" in image.read("etc/group")
    for target, unit in (("multi-user", "plugd.service"), ("sockets", "plugd.socket")):
        link = image.root / f"etc/systemd/system/{target}.target.wants/{unit}"
        assert os.readlink(link) == f"/{UNITS}/{unit}"


def test_every_file_of_the_sources_is_in_the_package(image: Image) -> None:
    """The wheel has all that lies in systemd/; the examples are put where they are looked for."""
    image.plugd("install")
    examples = {path.name for path in (ROOT / "systemd" / "examples").glob("*")}
    there = image.root / SHARE / "doc/plugd/examples"
    assert {path.name for path in there.glob("*")} == examples
    units = {path.name for path in (ROOT / "systemd").iterdir() if path.suffix in (".service", ".socket")}
    assert {path.name for path in (image.root / UNITS).iterdir()} == units


def test_units_run_this_installation(image: Image) -> None:
    """Every command of plugd's in the unit, and both links, lead to the programs beside this Python."""
    image.plugd("install")
    commands = re.findall(r"^Exec\w+=\S*?(/\S*/plug\w+)", image.read(SERVICE), re.MULTILINE)
    assert set(commands) == {str(BIN / "plugd"), str(BIN / "plugctl")}
    assert "/usr/bin/plug" not in image.read(SERVICE)
    for name in ("plugd", "plugctl"):
        assert os.readlink(image.root / "usr/local/bin" / name) == str(BIN / name)


def test_a_second_install_changes_nothing(image: Image) -> None:
    """It says so; no file is even written anew."""
    image.plugd("install")
    before = {path: path.lstat().st_mtime_ns for path in image.root.rglob("*")}
    assert image.plugd("install").splitlines()[-1] == "nothing to do: plugd is installed"
    assert {path: path.lstat().st_mtime_ns for path in image.root.rglob("*")} == before


def test_purge_leaves_nothing(image: Image) -> None:
    """After install, install and uninstall --purge the file system is what it was."""
    before = image.snapshot()
    image.plugd("install")
    image.plugd("install")
    image.write("etc/plugd/credentials/token", "secret")
    image.write("etc/plugd/plugins/mine.py", "mine")
    image.write("var/lib/plugd/settings.json", "{}")
    assert changes(before, image.snapshot())
    assert "removed user plugd and group plugd" in image.plugd("uninstall", "--purge")
    assert changes(before, image.snapshot()) == set()
    assert image.plugd("uninstall", "--purge") == "nothing to do: plugd is not installed\n"
    assert changes(before, image.snapshot()) == set()


def test_uninstall_leaves_what_is_the_administrators(image: Image) -> None:
    """Configuration, secrets, state and users stay, also a second time; a later purge still knows of them."""
    before = image.snapshot()
    image.plugd("install")
    image.write("etc/plugd/plugd.d/mine.toml", "")
    image.write("var/lib/plugd/settings.json", "{}")
    image.plugd("uninstall")
    left = image.snapshot()
    assert changes(before, left) - {"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"} == {
        "etc/plugd", "etc/plugd/plugd.toml", "etc/plugd/plugd.d", "etc/plugd/plugd.d/mine.toml", "etc/plugd/plugins",
        "var/lib/plugd", "var/lib/plugd/settings.json", "var/lib/plugd-install", MANIFEST,
    }  # fmt: skip
    assert "nothing to do: plugd is not installed\n" in image.plugd("uninstall")
    assert changes(left, image.snapshot()) == set()
    image.plugd("uninstall", "--purge")
    assert changes(before, image.snapshot()) == set()


def test_installed_again_after_uninstall(image: Image) -> None:
    """Nothing of the first time stands in the way."""
    image.plugd("install")
    first = image.snapshot()
    image.plugd("uninstall")
    image.plugd("install")
    assert changes(first, image.snapshot()) <= {MANIFEST}  # in another order


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_a_dry_run_changes_nothing(verb: str, image: Image) -> None:
    """It tells the lines that the real run then tells."""
    if verb == "uninstall":
        image.plugd("install")
    before = image.snapshot()
    planned = image.plugd_json(verb, "--dry-run")["changes"]
    text = image.plugd(verb, "--dry-run")
    assert len(re.findall(r"^would ", text, re.MULTILINE)) == len(planned) > 20
    assert changes(before, image.snapshot()) == set()
    assert image.plugd_json(verb)["changes"] == planned


def test_json_tells_every_change(image: Image) -> None:
    """What was done to what, what there is to know, and nothing else on stdout."""
    shown = image.plugd_json("install")
    assert set(shown) == {"dry_run", "changes", "notes"}
    assert shown["dry_run"] is False
    assert {"action": "write", "targets": [f"/{SERVICE}"]} in shown["changes"]
    assert image.plugd_json("install")["changes"] == []


def test_json_tells_a_refusal(image: Image) -> None:
    """As an object on stdout, too."""
    image.write("usr/lib/systemd/system/plugd.service", "")
    error = image.plugd_json("install", status=69)["error"]
    assert error["status"] == 69
    assert "already" in error["message"]


def test_a_changed_unit_is_kept(image: Image) -> None:
    """Without anything new, nothing is said; uninstall leaves it and says so; purge does not."""
    before = image.snapshot()
    image.plugd("install")
    image.write(SERVICE, "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
    assert "nothing to do" in image.plugd("install")
    assert not image.exists(f"{SERVICE}.new")
    assert f"note: /{SERVICE} is kept: it has been changed" in image.plugd("uninstall")
    assert "/bin/true" in image.read(SERVICE)
    assert f"removed /{SERVICE} (it had been changed)" in image.plugd("uninstall", "--purge")
    assert changes(before, image.snapshot()) == set()


def test_a_unit_of_somebody_elses_is_kept(image: Image) -> None:
    """plugd's own is written beside it, once; neither uninstall nor purge takes what they have not made."""
    image.write(SERVICE, "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
    before = image.snapshot()
    assert f"wrote /{SERVICE}.new (/{SERVICE} has been changed, and is kept)" in image.plugd("install")
    assert str(BIN / "plugd") in image.read(f"{SERVICE}.new")
    assert "nothing to do" in image.plugd("install")
    image.plugd("uninstall", "--purge")
    assert changes(before, image.snapshot()) == set()


def test_what_was_written_beside_goes_when_it_is_taken_over(image: Image) -> None:
    """By mv, or by cp: then the file is plugd's own again."""
    image.write(SERVICE, "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
    image.plugd("install")
    image.write(SERVICE, image.read(f"{SERVICE}.new"))
    assert image.plugd("install").splitlines()[0] == f"removed /{SERVICE}.new (no longer needed)"
    assert "nothing to do" in image.plugd("install")
    assert f"removed /{SERVICE}\n" in image.plugd("uninstall")


def test_a_configuration_that_is_there_is_left(image: Image) -> None:
    """The default is for those who have none."""
    image.write("etc/plugd/plugd.toml", "# mine\n")
    assert "plugd.toml" not in image.plugd("install").replace("plugd.toml.5", "")
    assert image.read("etc/plugd/plugd.toml") == "# mine\n"
    image.plugd("uninstall")
    assert image.read("etc/plugd/plugd.toml") == "# mine\n"


def test_an_edited_configuration_is_left(image: Image) -> None:
    """So is the default that somebody has edited."""
    image.plugd("install")
    image.write("etc/plugd/plugd.toml", "# mine\n")
    assert "nothing to do" in image.plugd("install")
    assert image.read("etc/plugd/plugd.toml") == "# mine\n"


def test_a_file_that_is_gone_is_written_again(image: Image) -> None:
    """So is a link."""
    image.plugd("install")
    before = image.snapshot()
    (image.root / SERVICE).unlink()
    (image.root / "usr/local/bin/plugctl").unlink()
    lines = image.plugd("install").splitlines()
    assert lines[:2] == [f"wrote /{SERVICE}", f"linked /usr/local/bin/plugctl (to {BIN / 'plugctl'})"]
    assert changes(before, image.snapshot()) == set()


def test_a_user_that_was_there_stays(image: Image) -> None:
    """Only what was made is removed."""
    image.write("etc/group", "root:x:0:\nplugd:x:4711:root\n")
    image.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nplugd:x:4711:4711::/:/bin/sh\n")
    assert "added" not in image.plugd("install")
    image.plugd("uninstall", "--purge")
    assert "plugd:x:4711" in image.read("etc/passwd")
    assert "plugd:x:4711:root" in image.read("etc/group")


def test_a_group_with_members_goes_with_purge(image: Image) -> None:
    """That the administrator has let others in is no reason for it to stay."""
    image.plugd("install")
    image.write("etc/group", re.sub(r"^(plugd:.*)$", r"\1root", image.read("etc/group"), flags=re.MULTILINE))
    image.plugd("uninstall", "--purge")
    assert "plugd" not in image.read("etc/group")


def test_an_override_is_told_and_left(image: Image) -> None:
    """What `systemctl edit` has made is not plugd's."""
    image.plugd("install")
    image.write("etc/systemd/system/plugd.service.d/override.conf", "[Service]\nNice=1\n")
    assert "note: /etc/systemd/system/plugd.service.d is kept" in image.plugd("uninstall", "--purge")
    assert image.exists("etc/systemd/system/plugd.service.d/override.conf")


def test_a_masked_service_stays_masked(image: Image) -> None:
    """It is neither enabled nor an error."""
    (image.root / "etc/systemd/system/plugd.service").symlink_to("/dev/null")
    assert "somebody has masked plugd.service" in image.plugd("install")
    assert not image.exists("etc/systemd/system/multi-user.target.wants")


def test_a_disabled_service_stays_disabled(image: Image) -> None:
    """An administrator's word counts for more than that of the first installation."""
    image.plugd("install")
    (image.root / "etc/systemd/system/multi-user.target.wants/plugd.service").unlink()
    assert "somebody has disabled plugd.service" in image.plugd("install")
    assert not image.exists("etc/systemd/system/multi-user.target.wants/plugd.service")


@pytest.mark.parametrize("kind", ["link", "file"])
def test_another_program_of_that_name_is_not_replaced(kind: str, image: Image) -> None:
    """It is refused before anything is changed."""
    if kind == "link":
        (image.root / "usr/local/bin/plugd").symlink_to("/opt/other/plugd")
    else:
        image.write("usr/local/bin/plugd", "#!/bin/sh\n")
    before = image.snapshot()
    assert "/usr/local/bin/plugd is there, and is not of this plugd" in image.plugd("install", status=69)
    assert changes(before, image.snapshot()) == set()


def test_a_program_that_is_found_needs_no_link(image: Image) -> None:
    """As with pipx install --global, which makes its own; it is not taken away."""
    for name in ("plugd", "plugctl"):
        (image.root / "usr/local/bin" / name).symlink_to(BIN / name)
    before = image.snapshot()
    assert "linked" not in image.plugd("install")
    image.plugd("uninstall", "--purge")
    assert changes(before, image.snapshot()) == set()


@pytest.mark.parametrize("unit", ["usr/lib/systemd/system/plugd.service", "lib/systemd/system/plugd.service"])
def test_beside_a_package_it_is_refused(unit: str, image: Image) -> None:
    """The package's own units would be overridden by ours, unseen."""
    image.write(unit, "")
    before = image.snapshot()
    assert f"plugd is installed already, by a package, as /{unit}" in image.plugd("install", status=69)
    assert changes(before, image.snapshot()) == set()


def test_a_packages_state_is_not_purged(image: Image) -> None:
    """Where a package came later, uninstall takes what is ours and leaves it the rest."""
    image.plugd("install")
    image.write("usr/lib/systemd/system/plugd.service", "")
    assert "those of a package" in image.plugd("uninstall", "--purge", status=69)
    image.plugd("uninstall")
    assert not image.exists(SERVICE)
    assert image.exists("etc/plugd/plugd.toml")


def test_only_what_holds_a_system_is_installed_into(tmp_path: Path) -> None:
    """A mistyped directory is neither made nor filled."""
    done = run("install", "--root", str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (69, [])
    assert "holds no system, there is no /etc in it" in done.stderr
    done = run("install", "--root", str(tmp_path / "none"))
    assert (done.returncode, list(tmp_path.iterdir())) == (69, [])


def test_a_link_out_of_the_root_is_refused(image: Image, tmp_path: Path) -> None:
    """What is right inside an image may lead to this system's own files from outside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (image.root / "usr/local/bin").rmdir()
    (image.root / "usr/local").rmdir()
    (image.root / "usr/local").symlink_to(outside)
    assert "out of it" in image.plugd("install", status=69)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("fault", ["forged", "broken", "later"])
def test_a_manifest_that_cannot_be_trusted_is_not_obeyed(fault: str, image: Image) -> None:
    """It says what root removes."""
    image.plugd("install")
    manifest = image.root / MANIFEST
    if fault == "forged":
        manifest.chmod(0o666)
    elif fault == "broken":
        manifest.write_text("{")
    else:
        manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    before = image.snapshot()
    assert MANIFEST in image.plugd("uninstall", "--purge", status=69)
    assert MANIFEST in image.plugd("install", status=69)
    assert changes(before, image.snapshot()) == set()


def test_everybody_may_read_what_is_installed(image: Image) -> None:
    """Whatever the umask of whoever installs."""
    old = os.umask(0o077)
    try:
        image.plugd("install")
    finally:
        os.umask(old)
    for path, (kind, mode, _) in image.snapshot().items():
        if "plugd" in path or path.startswith("usr/local"):
            assert kind == "link" or mode == (0o755 if kind == "directory" else 0o644), path


def test_a_failure_is_told_and_can_be_mended(image: Image) -> None:
    """What is in the way is named; once it is gone, the same command goes on, and uninstall leaves nothing."""
    before = image.snapshot()
    image.write(f"{SHARE}/man", "in the way")
    assert f"/{SHARE}/man/man" in image.plugd("install", status=71)
    (image.root / SHARE / "man").unlink()
    image.plugd("install")
    assert "nothing to do" in image.plugd("install")
    image.plugd("uninstall", "--purge")
    assert changes(before, image.snapshot()) - {SHARE} == set()


def test_nothing_is_left_of_a_failed_attempt(image: Image) -> None:
    """Uninstall takes back what a failed installation has done."""
    image.write(f"{SHARE}/man", "in the way")
    before = image.snapshot()
    image.plugd("install", status=71)
    image.plugd("uninstall", "--purge")
    assert changes(before, image.snapshot()) == set()


def test_the_root_of_the_tests_is_not_touched(image: Image) -> None:
    """All of it is in the image."""
    places = [Path("/usr/local/lib/systemd"), Path("/etc/plugd"), Path("/var/lib/plugd-install")]
    before = [snapshot(place) if place.is_dir() else place.exists() for place in places]
    image.plugd("install")
    assert [snapshot(place) if place.is_dir() else place.exists() for place in places] == before


def test_links_are_links_and_files_are_files(image: Image) -> None:
    """Nothing that is installed may be changed by others than its owner."""
    image.plugd("install")
    for path, (kind, mode, _) in image.snapshot().items():
        assert kind == "link" or not mode & (stat.S_IWGRP | stat.S_IWOTH), path
