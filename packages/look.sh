#!/bin/sh
# What a machine is and what its disks hold, as lines of KEY=VALUE. It is run there by ssh and changes nothing.
#
#   sh look.sh /dev/disk/by-id/FIRST /dev/disk/by-id/SECOND
set -eu
sysfs=${SYSFS:-/sys}

# One line for one disk: its path, then its size in bytes or `missing`, then what is on it.
disk() {
  if [ ! -b "$1" ]; then
    echo "disk=$1 missing"
    return
  fi
  content=$(lsblk --noheadings --raw --output NAME,FSTYPE,LABEL,MOUNTPOINT "$1" 2>/dev/null |
    awk 'NF > 1 { line = line (line ? ", " : "") $0 } END { print line }')
  echo "disk=$1 $(blockdev --getsize64 "$1" 2>/dev/null || lsblk --noheadings --nodeps --bytes --output SIZE "$1") ${content:-nothing that is recognised}"
}

# Where file systems of one disk are mounted, and whether it is swapped to. Not of the disk that the running system is on: that ends with it.
# ZFS mounts under the names of pools, which are labels on their disks.
busy() {
  parts=$(lsblk --noheadings --list --paths --output NAME,KNAME,MAJ:MIN "$1" 2>/dev/null) || return 0
  pools=$(lsblk --noheadings --list --output FSTYPE,LABEL "$1" 2>/dev/null | sed -n 's/^zfs_member  *//p')
  uses=$(PARTS=$parts POOLS=$pools awk '
    BEGIN {
      count = split(ENVIRON["PARTS"], words); for (i = 1; i <= count; i++) part[words[i]]
      count = split(ENVIRON["POOLS"], words); for (i = 1; i <= count; i++) pool[words[i]]
    }
    FILENAME == "/proc/swaps" { if ($1 in part) print "swap"; next }
    {
      for (i = 7; $i != "-"; i++);
      split($(i + 2), source, "/")
      if ($3 in part || $(i + 2) in part || ($(i + 1) == "zfs" && source[1] in pool)) print $5
    }' /proc/swaps /proc/self/mountinfo | sort -u)
  printf '%b\n' "$uses" | grep -qx / || printf '%b\n' "$uses" | sed -n "s|^.|busy=$1 &|p"
}

# Kernel modules on the way to a disk, one line for each. Newer kernels name one for what is built into them as well. PCI bridges and the
# core of USB every kernel has; what else is built into this one may be a module of the host's.
drivers() {
  at=$(readlink -f "$sysfs/class/block/$(basename "$(readlink -f "$1")")")
  while [ -n "$at" ] && [ "$at" != / ] && [ "$at" != "$sysfs" ]; do
    if [ -e "$at/driver/module" ] && ! everywhere "$at"; then echo "driver=$1 $(basename "$(readlink -f "$at/driver/module")")"; fi
    at=$(dirname "$at")
  done
}

# Whether a device is driven by what every kernel has.
everywhere() {
  case $(readlink -f "$1/driver") in */bus/usb/drivers/usb | */bus/usb/drivers/hub) return 0 ;; esac
  grep -qs '^0x0604' "$1/class"
}

echo "architecture=$(uname -m)"
echo "hostname=$(uname -n)"
echo "memory=$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
if [ -d /sys/firmware/efi ]; then echo uefi=yes; else echo uefi=no; fi
if [ -e "$sysfs/class/tpmrm/tpmrm0" ]; then echo tpm=yes; else echo tpm=no; fi
if grep -q '^VARIANT_ID="\{0,1\}installer' /etc/os-release 2>/dev/null; then echo installer=yes; else echo installer=no; fi
for service in k3s hatrack-agent; do
  if command -v systemctl >/dev/null && systemctl is-active --quiet "$service"; then echo "running=$service"; fi
done
for path in "$@"; do
  disk "$path"
  busy "$path"
  drivers "$path"
done
