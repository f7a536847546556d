#!/usr/bin/env bash
set -efux

disko_devices_dir=$(mktemp -d)
trap 'rm -rf "$disko_devices_dir"' EXIT
mkdir -p "$disko_devices_dir"

( # disk system /dev/disk/by-id/virtio-system   #
  destroy=1
  device=/dev/disk/by-id/virtio-system
  imageName=system
  imageSize=2G
  name=system
  type=disk
  
  ( # gpt  /dev/disk/by-id/virtio-system   #
    device=/dev/disk/by-id/virtio-system
    efiGptPartitionFirst=1
    type=gpt
    
    if ! blkid "/dev/disk/by-id/virtio-system" >&2; then
      sgdisk --clear "/dev/disk/by-id/virtio-system"
    fi
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
    --new=1:0:+1G \
     --partition-guid="1:R" \
    --change-name="1:disk-system-ESP" \
    --typecode=1:EF00 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-system" \
    
    then
      sgdisk --partition-guid="1:R" \
    --change-name="1:disk-system-ESP" \
    --typecode=1:EF00 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-system" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-system" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
    --new=2:0:-0 \
     --partition-guid="2:R" \
    --change-name="2:disk-system-root" \
    --typecode=2:8300 \
    --attributes=2:=:0 \
     \
    "/dev/disk/by-id/virtio-system" \
    
    then
      sgdisk --partition-guid="2:R" \
    --change-name="2:disk-system-root" \
    --typecode=2:8300 \
    --attributes=2:=:0 \
     \
    "/dev/disk/by-id/virtio-system" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-system" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    
    
    
    
    
    ( # filesystem  /dev/disk/by-partlabel/disk-system-ESP vfat /boot #
      device=/dev/disk/by-partlabel/disk-system-ESP
      declare -a extraArgs=()
      format=vfat
      declare -a mountOptions=('umask=0077')
      mountpoint=/boot
      type=filesystem
      
      if ! (blkid "/dev/disk/by-partlabel/disk-system-ESP" | grep -q 'TYPE='); then
        mkfs.vfat \
           \
          "/dev/disk/by-partlabel/disk-system-ESP"
      fi
      
      
    )
    
    ( # filesystem  /dev/disk/by-partlabel/disk-system-root ext4 / #
      device=/dev/disk/by-partlabel/disk-system-root
      declare -a extraArgs=()
      format=ext4
      declare -a mountOptions=(noatime)
      mountpoint=/
      type=filesystem
      
      if ! (blkid "/dev/disk/by-partlabel/disk-system-root" | grep -q 'TYPE='); then
        mkfs.ext4 \
           \
          "/dev/disk/by-partlabel/disk-system-root"
      fi
      
      
    )
    
    
    
    
  )
  
  
)
