"""Other people's clients: anything that can write msgpack to a socket."""

import shutil
import subprocess

import msgpack
import pytest
from harness import SHIPPED, Daemons


def test_one_line_of_shell(daemon: Daemons) -> None:
    """Thirteen bytes of printf through socat are a client."""
    if shutil.which("socat") is None:
        pytest.skip("there is no socat")
    running = daemon(plugins={"cpu": SHIPPED / "cpu.py"})
    line = rf"printf '\x94\x00\x01\xa4list\x90' | socat -t2 - UNIX-CONNECT:{running.socket}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True, timeout=30)
    kind, identifier, error, result = msgpack.unpackb(done.stdout)
    assert (kind, identifier, error) == (1, 1, None)
    assert [row["name"] for row in result] == ["cpu"]


PERL = r"""
use strict;
use IO::Socket::UNIX;
use Data::MessagePack;

my $socket = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "cannot connect: $!";
my $packer = Data::MessagePack->new->utf8;  # text as str, as all others send it; without, it is bin
my $unpacker = Data::MessagePack::Unpacker->new;
my ($buffer, $offset) = ("", 0);

sub receive {
    while (1) {
        if (length $buffer) {
            $offset = $unpacker->execute($buffer, $offset);
            if ($unpacker->is_finished) {
                my $message = $unpacker->data;
                $buffer = substr $buffer, $offset;
                $offset = 0;
                $unpacker->reset;
                return $message;
            }
        }
        sysread $socket, my $bytes, 65536 or die "closed";
        $buffer .= $bytes;
    }
}

my $id = 0;
sub call {
    my ($method, $params) = @_;
    syswrite $socket, $packer->pack([0, ++$id, $method, $params ? [$params] : []]);
    while (1) {
        my $message = receive();
        next if $message->[0] == 2;
        die "$method: $message->[2]{code}: $message->[2]{message}\n" if defined $message->[2];
        return $message->[3];
    }
}

print join(",", map { "$_->{name}:$_->{state}" } @{ call("list") }), "\n";
print join(",", @{ call("reload", { names => ["cpu"] })->{reloaded} }), "\n";
my $subscription = call("subscribe", { patterns => ["cpu"] })->{subscription};
my $message = receive();
my $params = $message->[2][0];
print "$message->[1] ", ($params->{subscription} == $subscription ? "ours" : "whose"), " $params->{plugin}\n";
print scalar(@{ $params->{samples} }) > 0 ? "samples\n" : "nothing\n";
"""


def test_a_perl_client(daemon: Daemons) -> None:
    """A Perl program with Data::MessagePack lists, reloads and subscribes, without a word of plugd's own code."""
    try:
        subprocess.run(["perl", "-MData::MessagePack", "-e", "1"], capture_output=True, check=True, timeout=30)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("there is no Perl with Data::MessagePack")
    running = daemon(plugins={"cpu": SHIPPED / "cpu.py"}, config="[plugins.cpu]\ninterval = 0.1\n")
    done = subprocess.run(
        ["perl", "-e", PERL, str(running.socket)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["cpu:running", "cpu", "sample ours cpu", "samples"]
