#!/usr/bin/env bash
# Runs a command beside a Ceph gateway on the loopback, with keys made for it:  with_ceph.sh UP command ...
# UP DIR PORT starts the gateway and leaves its configuration and process ids (run/p.*) in DIR.
set -euo pipefail
up=$1 port=${CEPH_PORT:-7485}
shift
for program in ceph-mon ceph-osd radosgw radosgw-admin; do
  command -v "$program" > /dev/null || { echo "$program is missing: apt-get install ceph-mon ceph-osd radosgw ceph-common" >&2; exit 1; }
done
export CEPH_DIR
CEPH_DIR=$(mktemp -d)/gateway
stop() {
  for file in "$CEPH_DIR"/run/p.rgw "$CEPH_DIR"/run/p.osd "$CEPH_DIR"/run/p.mon; do kill -9 "$(cat "$file")" || true; done
  rm -rf "$(dirname "$CEPH_DIR")"
}
trap stop EXIT
bash "$up" "$CEPH_DIR" "$port"
user() { # uid, then what else radosgw-admin is told: "access secret"
  CEPH_CONF=$CEPH_DIR/ceph.conf radosgw-admin user create --uid="$1" --display-name="$1" 2> /dev/null |
    python3 -c 'import json, sys; key = json.load(sys.stdin)["keys"][0]; print(key["access_key"], key["secret_key"])'
}
read -r CEPH_ACCESS_KEY CEPH_SECRET_KEY < <(user faults)
read -r CEPH_FULL_ACCESS_KEY CEPH_FULL_SECRET_KEY < <(user full)
CEPH_CONF=$CEPH_DIR/ceph.conf radosgw-admin quota set --quota-scope=user --uid=full --max-size=100K
CEPH_CONF=$CEPH_DIR/ceph.conf radosgw-admin quota enable --quota-scope=user --uid=full
export CEPH_ENDPOINT=http://127.0.0.1:$port CEPH_ACCESS_KEY CEPH_SECRET_KEY CEPH_FULL_ACCESS_KEY CEPH_FULL_SECRET_KEY
"$@"
