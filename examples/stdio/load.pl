#!/usr/bin/perl
# Load average, as a plugin in Perl: msgpack-RPC on stdin and stdout. Needs libdata-messagepack-perl.
#   [plugins.perl_load]
#   command = ["/usr/local/lib/plugd/load.pl"]
#   format = "plugd"
use strict;
use warnings;
use Data::MessagePack;

my %windows = ("1m" => 0, "5m" => 1, "15m" => 2);
my $scale = 1;

my %methods = (
    load => sub {
        return {
            version => "1.0", description => "Load average of the host, by Perl.", interval => 5,
            metrics => [{ name => "perl.load", unit => "{thread}", labels => ["window"], help => "Run-queue length." }],
            settings => [{ name => "scale", type => "int", default => 1, minimum => 1 }],
            commands => [{ name => "add", parameters => [{ name => "a", type => "int" }, { name => "b", type => "int" }] }],
        };
    },
    start   => sub { $scale = $_[0]{settings}{scale}; return },
    set     => sub { $scale = $_[0]{value}; return },
    call    => sub { my $arguments = $_[0]{arguments}; return $arguments->{a} + $arguments->{b} },
    collect => sub {
        open(my $file, "<", "/proc/loadavg") or die "/proc/loadavg: $!\n";
        my @average = split(" ", <$file>);
        return [map { ["perl.load", $scale * $average[$windows{$_}], { window => $_ }] } sort keys %windows];
    },
);

$| = 1;
my ($unpacker, $buffer) = (Data::MessagePack::Unpacker->new, "");
while (sysread(STDIN, $buffer, 65536, length $buffer)) {
    my $end = $unpacker->execute($buffer, 0);
    next unless $unpacker->is_finished;
    my (undef, $id, $method, $params) = @{ $unpacker->data };
    $unpacker->reset;
    substr($buffer, 0, $end) = "";
    my $code = $methods{$method};
    my $result = $code ? eval { $code->($params->[0]) } : undef;
    my $error = $code ? $@ || undef : { code => "request.unknown_method", message => "no method $method" };
    print Data::MessagePack->pack([1, $id, $error, $result]);
}
