#!/usr/bin/env bash
# Checks the systemd unit: that it verifies, and that it is confined. Needs systemd's tools, not a running systemd.
#
#   bash deploy/check.sh PATH/TO/kithd
set -euo pipefail

# Exposure of `systemd-analyze security`, in tenths: 20 is 2.0.
exposure_max_tenths=20

if [[ $# -ne 1 ]]; then
    echo "usage: $0 PATH/TO/kithd" >&2
    exit 2
fi
if [[ ! -x $1 ]]; then
    echo "$1 is not a program. Build it first: cargo build --package kith-relay" >&2
    exit 1
fi
if ! command -v systemd-analyze >/dev/null; then
    echo "systemd-analyze is missing. Install it: apt-get install systemd" >&2
    exit 1
fi

binary=$(realpath "$1")
unit=$(realpath "$(dirname "${BASH_SOURCE[0]}")/kithd.service")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# `verify` wants the program to exist, so a copy points at the one that was built. The path may hold spaces.
while IFS= read -r line; do
    if [[ $line == ExecStart=* ]]; then
        line="ExecStart=\"$binary\" serve /var/lib/kith"
    fi
    printf '%s\n' "$line"
done <"$unit" >"$work/kithd.service"

# Unknown options only warn: any word about our own unit counts. What it says of the host's other units does not.
said=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no --recursive-errors=no "$work/kithd.service" 2>&1) || {
    echo "$said" >&2
    exit 1
}
if grep -F kithd.service <<<"$said" >&2; then
    echo "systemd-analyze verify found something in deploy/kithd.service" >&2
    exit 1
fi

systemd-analyze security --offline=true --no-pager --threshold="$exposure_max_tenths" "$work/kithd.service" |
    tail -n 1
