#!/bin/sh
# The demo "go-plugin-demo", over plugd. Needs go, a C compiler and plugd.
#
# PLUGIN_NUMBER chooses the plugin: 1, which is the default, or 2.
set -eu
. "$(dirname "$0")/../demo.sh"
number=${PLUGIN_NUMBER:-1}
plugin=plugin$number

say 'Two plugins, and a daemon that loads neither by itself.'
show 'go build -buildmode=c-shared -o plugins/plugin1.so plugins/plugin1.go'
show 'go build -buildmode=c-shared -o plugins/plugin2.so plugins/plugin2.go'
show "printf '[plugins.plugin1]\nenabled = false\n[plugins.plugin2]\nenabled = false\n' > plugd.toml"
start_daemon

say "PLUGIN_NUMBER=$number: which one it is, is chosen as the daemon runs."
show "plugctl load $plugin"
show "plugctl call $plugin run"

say 'The exported variable I is read, and changed; and the plugin itself prints what is in it now.'
show "plugctl get $plugin I"
I=$(plugctl get "$plugin" I)
show "plugctl set $plugin I=$((I + 1))"
show "plugctl get $plugin I"
show "plugctl call $plugin print_i"
show "plugctl --json logs $plugin | grep -o '\"line\": *\"[^\"]*\"'"

say 'What has been set is still set after a reload, which is another process.'
show "plugctl reload $plugin"
show "plugctl call $plugin print_i"
show "plugctl set $plugin I=many"

say 'The C program: dlopen and dlsym of a plugin in Go.'
show 'cc -O2 -Wall "-I$(plugd --include-dir)" -o main c/main.c -ldl'
show "./main plugins/$plugin.so"
