#!/nix/store/bash/bin/bash
set -o errexit
set -o nounset
set -o pipefail

export PATH="/nix/store/rsync/bin:/nix/store/util-linux/bin:$PATH"

for esp in /boot /boot-mirror; do
  mountpoint --quiet "$esp" || {
    echo "$esp is not mounted: mount it, or replace its disk, before the next switch" >&2
    exit 1
  }
done
# Timestamps of FAT are even seconds; it has neither owners nor modes.
rsync --recursive --times --modify-window=2 --delete /boot/ /boot-mirror/
sync --file-system /boot-mirror
