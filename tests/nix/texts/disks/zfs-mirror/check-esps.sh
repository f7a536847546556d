#!/nix/store/bash/bin/bash
set -o errexit
set -o nounset
set -o pipefail

export PATH="/nix/store/util-linux/bin:$PATH"

for esp in /boot /boot-mirror; do
  mountpoint --quiet "$esp" || {
    echo "$esp is not mounted: mount it, or replace its disk, before the next switch" >&2
    exit 1
  }
done
