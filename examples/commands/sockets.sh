#!/bin/sh
# Influx line protocol: what Telegraf's exec input runs. Sockets in use, from /proc/net/sockstat: proc(5).
while read -r protocol key in_use _; do
    [ "$key" = inuse ] && echo "sockets,protocol=${protocol%:} in_use=${in_use}i"
done </proc/net/sockstat
