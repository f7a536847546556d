#!/usr/bin/env bash
set -efux
# first create the necessary devices
(
  destroy=1
  device=/dev/disk/by-id/virtio-system
  imageName=system
  imageSize=2G
  name=system
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-system
    efiGptPartitionFirst=1
    type=gpt
    
    
    
  )
  
  
)


# and then mount the filesystems in dependency order
(
  destroy=1
  device=/dev/disk/by-id/virtio-system
  imageName=system
  imageSize=2G
  name=system
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-system
    efiGptPartitionFirst=1
    type=gpt
    
    (
      device=/dev/disk/by-partlabel/disk-system-root
      declare -a extraArgs=()
      format=ext4
      declare -a mountOptions=(noatime)
      mountpoint=/
      type=filesystem
      
      if ! findmnt "/dev/disk/by-partlabel/disk-system-root" "/mnt/" >/dev/null 2>&1; then
        mount "/dev/disk/by-partlabel/disk-system-root" "/mnt/" \
          -t "ext4" \
          -o noatime \
          -o X-mount.mkdir
      fi
      
      
    )
    
    
  )
  
  
)
(
  destroy=1
  device=/dev/disk/by-id/virtio-system
  imageName=system
  imageSize=2G
  name=system
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-system
    efiGptPartitionFirst=1
    type=gpt
    
    (
      device=/dev/disk/by-partlabel/disk-system-ESP
      declare -a extraArgs=()
      format=vfat
      declare -a mountOptions=('umask=0077')
      mountpoint=/boot
      type=filesystem
      
      if ! findmnt "/dev/disk/by-partlabel/disk-system-ESP" "/mnt/boot" >/dev/null 2>&1; then
        mount "/dev/disk/by-partlabel/disk-system-ESP" "/mnt/boot" \
          -t "vfat" \
          -o 'umask=0077' \
          -o X-mount.mkdir
      fi
      
      
    )
    
    
  )
  
  
)
