#!/bin/sh
# collectd's plain text protocol: what its exec plugin runs, for as long as it goes on.
while read -r up _ </proc/uptime; do
    echo "PUTVAL ${COLLECTD_HOSTNAME:-localhost}/uptime/uptime interval=${COLLECTD_INTERVAL:-10} N:$up"
    sleep "${COLLECTD_INTERVAL:-10}"
done
