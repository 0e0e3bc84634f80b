"""An installation that ends halfway, and one of another version: in the tests' own process."""

import os

import pytest
from install_rig import MANIFEST, SERVICE, Image, changes, needs_systemd

from plugd.install import manifest as manifests
from plugd.install import steps
from plugd.install.errors import InstallError
from plugd.install.installer import Installer
from plugd.install.manager import Manager
from plugd.install.manifest import Entry, Manifest
from plugd.install.pieces import TMPFILES, UNITS, Piece, directories_of
from plugd.install.plan import Plan, decide, plan_install
from plugd.install.program import this_program
from plugd.install.steps import Step, perform
from plugd.install.tree import ABSENT, OTHER, Tree, file_content

OLD, NEW, MINE = (file_content(data) for data in (b"old", b"new", b"mine"))
ACCOUNTS = {"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"}


class Cut(BaseException):
    """The end of an installation, at no fault of its own."""


def installer(image: Image, steps_left: int | None = None) -> Installer:
    """Return an installer that is cut off after so many steps."""
    told: list[Step] = []

    def tell(step: Step) -> None:
        told.append(step)
        if len(told) == steps_left:
            raise Cut

    tree = Tree(str(image.root))
    return Installer(tree, Manager(tree, live=False), os.geteuid(), dry_run=False, tell=tell)


def count(image: Image, verb: str) -> int:
    return len(image.plugd_json(verb, "--dry-run", *(["--purge"] if verb == "uninstall" else []))["changes"])


@needs_systemd
def test_cut_off_at_any_step_it_can_be_taken_back(image: Image) -> None:
    """Whatever has been made by then is known, and nothing more is removed."""
    before = image.snapshot()
    for steps_left in range(1, count(image, "install") + 1):
        with pytest.raises(Cut):
            installer(image, steps_left).install(now=False)
        assert changes(before, image.snapshot())
        installer(image).uninstall(purge=True)
        # The user is given back its place in these files at their end.
        assert changes(before, image.snapshot()) == set(), steps_left


@needs_systemd
def test_cut_off_at_any_step_it_can_be_gone_on_with(image: Image) -> None:
    """One step at a time, in as many attempts, the same is installed as in one."""
    for _ in range(count(image, "install")):
        with pytest.raises(Cut):
            installer(image, 1).install(now=False)
    installer(image, 1).install(now=False)  # Not cut off: there is no step left.
    steps_left = count(image, "uninstall")
    image.plugd("uninstall", "--purge")
    image.plugd("install")
    assert count(image, "uninstall") == steps_left


@needs_systemd
def test_cut_off_at_any_step_an_uninstall_can_be_gone_on_with(image: Image) -> None:
    """One step at a time, in as many attempts, the same is removed as in one."""
    before = image.snapshot()
    image.plugd("install")
    for _ in range(count(image, "uninstall")):
        with pytest.raises(Cut):
            installer(image, 1).uninstall(purge=True)
    installer(image).uninstall(purge=True)
    assert changes(before, image.snapshot()) == set()


@needs_systemd
def test_nothing_is_done_before_it_is_written_down(image: Image) -> None:
    """The first change of all is the manifest with what is to come."""
    seen: list[Manifest] = []
    tree = Tree(str(image.root))
    it = Installer(tree, Manager(tree, live=False), 0, dry_run=False, tell=lambda _: seen.append(manifests.load(tree)))
    it.install(now=False)
    assert f"/{SERVICE}" in seen[0].entries
    assert "/etc/plugd" in seen[0].directories
    assert set(seen[0].users) == {"user", "group"}
    assert seen[0].enabled is False


@needs_systemd
def test_two_at_a_time_are_one_too_many(image: Image) -> None:
    """The second is refused, and leaves the first in peace."""
    tree = Tree(str(image.root))
    with manifests.locked(tree):
        assert "under way" in image.plugd("install", status=69)
    image.plugd("install")


def test_a_lock_leaves_nothing(image: Image) -> None:
    """Its directory is the manifest's, and goes if there is none."""
    before = image.snapshot()
    with manifests.locked(Tree(str(image.root))):
        assert image.exists("var/lib/plugd-install")
    assert changes(before, image.snapshot()) == set()


def test_what_is_decided_about_a_file() -> None:
    """As dpkg does with conffiles: what nobody has changed is updated, what somebody has is kept."""
    known = Entry(content=OLD)

    def decided(entry: Entry | None, there: str, *, seed: bool = False) -> str:
        return decide(b"new", entry, there, seed=seed)

    assert decided(None, ABSENT) == steps.WRITE
    assert decided(known, ABSENT) == steps.WRITE
    assert decided(None, NEW) == decided(known, NEW) == ""
    assert decided(known, OLD) == steps.UPDATE
    assert decided(known, MINE) == decided(known, OTHER) == steps.OFFER
    assert decided(None, MINE) == steps.OFFER
    assert decided(None, MINE, seed=True) == ""
    assert decided(known, OLD, seed=True) == steps.UPDATE
    assert decided(known, MINE, seed=True) == steps.OFFER
    assert decided(Entry(content=NEW), MINE) == ""
    assert decided(Entry(content=OLD, offered=NEW), MINE) == ""
    assert decided(Entry(content=NEW, previous=OLD), OLD) == steps.UPDATE


class Versions:
    """Installs one set of files after another into an image, without any systemd."""

    def __init__(self, image: Image) -> None:
        self.tree = Tree(str(image.root))
        self.manager = NoManager(self.tree, live=False)
        self.manifest = Manifest()
        self.program = this_program()

    def install(self, *wanted: Piece, version: str = "1") -> Plan:
        plan = plan_install(self.tree, self.manager, self.manifest, list(wanted), self.program, version, now=False)
        for step in plan.steps:
            perform(step, self.tree, self.manager)
        self.manifest = plan.manifest
        return plan


class NoManager(Manager):
    """One that has all that it could be asked for."""

    def missing_users(self) -> list[str]:
        return []

    def enabled(self, unit: str) -> str:
        return "enabled"


def unit(data: bytes) -> Piece:
    return Piece(f"{UNITS}/plugd.service", data)


def test_an_upgrade_updates_what_nobody_has_changed(image: Image) -> None:
    """And only that."""
    versions, same = Versions(image), Piece("/etc/same", b"same")
    versions.install(unit(b"1"), same)
    plan = versions.install(unit(b"2"), same, version="2")
    assert [(step.action, step.targets) for step in plan.steps] == [(steps.UPDATE, (f"/{SERVICE}",))]
    assert image.read(SERVICE) == "2"
    assert versions.install(unit(b"2"), same, version="2").steps == []


def test_an_upgrade_offers_what_somebody_has_changed(image: Image) -> None:
    """Each new version once, until the file is as it should be."""
    versions = Versions(image)
    versions.install(unit(b"1"))
    image.write(SERVICE, "mine")
    assert versions.install(unit(b"1")).steps == []
    assert [step.action for step in versions.install(unit(b"2")).steps] == [steps.OFFER]
    assert versions.install(unit(b"2")).steps == []
    assert [step.action for step in versions.install(unit(b"3")).steps] == [steps.OFFER]
    assert (image.read(SERVICE), image.read(f"{SERVICE}.new")) == ("mine", "3")
    image.write(SERVICE, "1")  # as it was written once: so nobody has changed it
    assert [step.action for step in versions.install(unit(b"3")).steps] == [steps.REMOVE, steps.UPDATE]
    assert image.read(SERVICE) == "3"


def test_an_upgrade_removes_what_is_no_longer_part_of_plugd(image: Image) -> None:
    """But nothing that somebody has changed."""
    versions = Versions(image)
    versions.install(unit(b"1"), Piece("/etc/gone", b"gone"), Piece("/etc/changed", b"changed"))
    image.write("etc/changed", "mine")
    plan = versions.install(unit(b"1"))
    assert [(step.action, step.targets) for step in plan.steps] == [(steps.REMOVE, ("/etc/gone",))]
    assert image.read("etc/changed") == "mine"
    assert versions.install(unit(b"1")).steps == []


def test_a_step_that_fails_tells_what_it_was(image: Image) -> None:
    """In words, and with the status of a step that failed."""
    tree = Tree(str(image.root))
    with pytest.raises(InstallError, match=r"^cannot write /etc/none/x: No such file or directory$") as caught:
        perform(Step(steps.WRITE, ("/etc/none/x",)), tree, Manager(tree, live=False))
    assert caught.value.status == 71


def test_a_file_is_replaced_as_a_whole(image: Image) -> None:
    """Whoever has it open goes on with the old one; what a crash has left beside it is no obstacle."""
    tree = Tree(str(image.root))
    tree.write("/etc/x", b"old")
    image.write("etc/x.plugd-new", "half")
    with open(image.root / "etc/x", "rb") as file:
        tree.write("/etc/x", b"new")
        assert file.read() == b"old"
    assert tree.read("/etc/x") == b"new"
    assert not image.exists("etc/x.plugd-new")


def test_a_tree_is_removed_without_following_links(image: Image) -> None:
    """plugd's user could put one into its state directory."""
    image.write("etc/precious", "precious")
    image.write("var/lib/plugd/x", "x")
    (image.root / "var/lib/plugd/link").symlink_to(image.root / "etc")
    (image.root / "var/lib/linked").symlink_to(image.root / "etc")
    tree = Tree(str(image.root))
    tree.remove_all("/var/lib/plugd")
    tree.remove_all("/var/lib/linked")
    assert image.read("etc/precious") == "precious"
    assert not image.exists("var/lib/plugd")
    assert not image.exists("var/lib/linked")


def test_the_directories_of_a_tmpfiles_file() -> None:
    """Lines of other types, and comments, are none."""
    data = b"# d /no\nd  /run/plugd 0755 root root -\nD! /run/x\nf /run/file 0644\n\nd\n"
    assert directories_of(data) == ["/run/plugd", "/run/x"]
    assert TMPFILES.endswith(".conf")  # others are not read: tmpfiles.d(5)


def test_the_manifest_is_no_place_of_the_daemons() -> None:
    """What root obeys must not lie where plugd's user can write."""
    assert not f"/{MANIFEST}".startswith("/var/lib/plugd/")
