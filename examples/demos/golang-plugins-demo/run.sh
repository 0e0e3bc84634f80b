#!/bin/sh
# The demo "golang-plugins-demo", over plugd; and what Go's own plugins cannot do. Needs go and plugd.
set -eu
. "$(dirname "$0")/../demo.sh"

build() { show "go build -buildmode=c-shared -o plugins/$1.so plugins/$1.go"; }

say 'The first plugin. The command is the one of old, but for the build mode.'
build cpu
show 'plugctl check plugins/cpu.so'

say 'It runs. What it has to tell is there on request, and its numbers are collected.'
start_daemon
show 'plugctl list'
show 'plugctl call cpu info | head -n 8'
show 'plugctl describe cpu | grep "^METRIC\|^system"'

say 'Another plugin comes while the first one runs: the reload of old.'
build disk
show 'plugctl reload'
show 'plugctl call disk info'

say 'Other code under the same name, while it runs. Go: "Plugins cannot be reloaded."'
show "sed -i 's/The processors of/What computes in/' plugins/cpu.go"
build cpu
show 'plugctl reload'
show 'plugctl list'

say 'Code that is wrong: it says what is wrong, and what ran before runs on.'
show "sed -i 's/\"Hz\"/\"cycles per second\"/' plugins/cpu.go"
build cpu
show 'plugctl reload'
show "plugctl list | grep -c running"
show "sed -i 's/\"cycles per second\"/\"Hz\"/' plugins/cpu.go"
build cpu
show 'plugctl reload'

say 'Unloading. Go: there is no such thing. Its process has gone, and plugd never had any of it.'
worker=$(plugctl --json list | tr '{' '\n' | sed -n 's/.*"name": *"cpu".*"pid": *\([0-9]*\).*/\1/p')
show 'plugctl unload cpu'
show 'plugctl list'
show "test -e /proc/$worker || echo gone"
show "grep cpu.so /proc/$daemon/maps || echo nothing"
show 'plugctl load cpu'

say 'The same plugin once more beside itself. Go: "Loading a copy of the already loaded plugin panics."'
show "printf '[plugins.\"cpu@second\"]\ninterval = \"1s\"\n' > plugd.toml"
show 'plugctl reload'
show 'plugctl list'

say "A file of Go's own plugin mode is recognised, before anything of it is touched."
show 'go build -buildmode=plugin -o old/cpu.so plugins/cpu.go'
show 'plugctl check old/cpu.so'

say 'simple_example: a function by its name.'
show 'go build -buildmode=c-shared -o plugins/simple.so simple_example/simple.go'
show 'plugctl reload'
show 'plugctl call simple add 1 2'
