#!/nix/store/bash/bin/bash
set -o errexit
set -o nounset
set -o pipefail

export PATH="/nix/store/systemd/bin:/nix/store/util-linux/bin:$PATH"

fail() {
  echo "Longhorn cannot keep volumes here: $1" >&2
  exit 1
}
mountpoint --quiet '/var/lib/longhorn' ||
  fail 'no disk is mounted at /var/lib/longhorn; volumes would fill the system'\''s disk'
[ -d /sys/module/iscsi_tcp ] || fail "the kernel has not loaded iscsi_tcp"
systemctl is-active --quiet iscsid.service || fail "iscsid.service does not run"
