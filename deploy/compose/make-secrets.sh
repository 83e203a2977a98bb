#!/bin/sh
# Make the passwords of the Compose stack, once; those that exist stay as they are.
# The folder is closed to other users of this machine. The files are readable, because processes in the containers read
# them under user numbers of their own.
set -eu
secrets=$(dirname "$0")/secrets
mkdir -p "$secrets"
chmod 700 "$secrets"
for name in postgres owner writer reader grafana; do
  file=$secrets/${name}_password
  if [ ! -s "$file" ]; then
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n' >"$file"
    chmod 644 "$file"
  fi
done
