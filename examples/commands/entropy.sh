#!/bin/sh
# Prometheus text: what many exporters' textfile scripts print.
available=$(cat /proc/sys/kernel/random/entropy_avail)
size=$(cat /proc/sys/kernel/random/poolsize)
cat <<END
# HELP node_entropy_available_bits Bits of available entropy.
# TYPE node_entropy_available_bits gauge
node_entropy_available_bits $available
# HELP node_entropy_pool_size_bits Bits of entropy pool.
# TYPE node_entropy_pool_size_bits gauge
node_entropy_pool_size_bits $size
END
