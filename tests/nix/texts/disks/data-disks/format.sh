#!/usr/bin/env bash
set -efux

disko_devices_dir=$(mktemp -d)
trap 'rm -rf "$disko_devices_dir"' EXIT
mkdir -p "$disko_devices_dir"

( # disk data-1 /dev/disk/by-id/virtio-data-1   #
  destroy=1
  device=/dev/disk/by-id/virtio-data-1
  imageName=data-1
  imageSize=2G
  name=data-1
  type=disk
  
  ( # gpt  /dev/disk/by-id/virtio-data-1   #
    device=/dev/disk/by-id/virtio-data-1
    efiGptPartitionFirst=1
    type=gpt
    
    if ! blkid "/dev/disk/by-id/virtio-data-1" >&2; then
      sgdisk --clear "/dev/disk/by-id/virtio-data-1"
    fi
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
    --new=1:0:-0 \
     --partition-guid="1:R" \
    --change-name="1:disk-data-1-volumes" \
    --typecode=1:8300 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-data-1" \
    
    then
      sgdisk --partition-guid="1:R" \
    --change-name="1:disk-data-1-volumes" \
    --typecode=1:8300 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-data-1" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-data-1" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    
    
    
    
    
    ( # filesystem  /dev/disk/by-partlabel/disk-data-1-volumes ext4 /var/lib/longhorn #
      device=/dev/disk/by-partlabel/disk-data-1-volumes
      declare -a extraArgs=()
      format=ext4
      declare -a mountOptions=(noatime nofail)
      mountpoint=/var/lib/longhorn
      type=filesystem
      
      if ! (blkid "/dev/disk/by-partlabel/disk-data-1-volumes" | grep -q 'TYPE='); then
        mkfs.ext4 \
           \
          "/dev/disk/by-partlabel/disk-data-1-volumes"
      fi
      
      
    )
    
    
    
    
  )
  
  
)
( # disk data-2 /dev/disk/by-id/virtio-data-2   #
  destroy=1
  device=/dev/disk/by-id/virtio-data-2
  imageName=data-2
  imageSize=2G
  name=data-2
  type=disk
  
  ( # gpt  /dev/disk/by-id/virtio-data-2   #
    device=/dev/disk/by-id/virtio-data-2
    efiGptPartitionFirst=1
    type=gpt
    
    if ! blkid "/dev/disk/by-id/virtio-data-2" >&2; then
      sgdisk --clear "/dev/disk/by-id/virtio-data-2"
    fi
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
    --new=1:0:-0 \
     --partition-guid="1:R" \
    --change-name="1:disk-data-2-volumes" \
    --typecode=1:8300 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-data-2" \
    
    then
      sgdisk --partition-guid="1:R" \
    --change-name="1:disk-data-2-volumes" \
    --typecode=1:8300 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-data-2" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-data-2" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    
    
    
    
    
    ( # filesystem  /dev/disk/by-partlabel/disk-data-2-volumes ext4 /var/lib/longhorn-2 #
      device=/dev/disk/by-partlabel/disk-data-2-volumes
      declare -a extraArgs=()
      format=ext4
      declare -a mountOptions=(noatime nofail)
      mountpoint=/var/lib/longhorn-2
      type=filesystem
      
      if ! (blkid "/dev/disk/by-partlabel/disk-data-2-volumes" | grep -q 'TYPE='); then
        mkfs.ext4 \
           \
          "/dev/disk/by-partlabel/disk-data-2-volumes"
      fi
      
      
    )
    
    
    
    
  )
  
  
)
