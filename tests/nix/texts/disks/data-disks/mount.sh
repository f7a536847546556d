#!/usr/bin/env bash
set -efux
# first create the necessary devices
(
  destroy=1
  device=/dev/disk/by-id/virtio-data-1
  imageName=data-1
  imageSize=2G
  name=data-1
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-data-1
    efiGptPartitionFirst=1
    type=gpt
    
    
    
  )
  
  
)
(
  destroy=1
  device=/dev/disk/by-id/virtio-data-2
  imageName=data-2
  imageSize=2G
  name=data-2
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-data-2
    efiGptPartitionFirst=1
    type=gpt
    
    
    
  )
  
  
)


# and then mount the filesystems in dependency order
(
  destroy=1
  device=/dev/disk/by-id/virtio-data-1
  imageName=data-1
  imageSize=2G
  name=data-1
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-data-1
    efiGptPartitionFirst=1
    type=gpt
    
    (
      device=/dev/disk/by-partlabel/disk-data-1-volumes
      declare -a extraArgs=()
      format=ext4
      declare -a mountOptions=(noatime nofail)
      mountpoint=/var/lib/longhorn
      type=filesystem
      
      if ! findmnt "/dev/disk/by-partlabel/disk-data-1-volumes" "/mnt/var/lib/longhorn" >/dev/null 2>&1; then
        mount "/dev/disk/by-partlabel/disk-data-1-volumes" "/mnt/var/lib/longhorn" \
          -t "ext4" \
          -o noatime -o nofail \
          -o X-mount.mkdir
      fi
      
      
    )
    
    
  )
  
  
)
(
  destroy=1
  device=/dev/disk/by-id/virtio-data-2
  imageName=data-2
  imageSize=2G
  name=data-2
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-data-2
    efiGptPartitionFirst=1
    type=gpt
    
    (
      device=/dev/disk/by-partlabel/disk-data-2-volumes
      declare -a extraArgs=()
      format=ext4
      declare -a mountOptions=(noatime nofail)
      mountpoint=/var/lib/longhorn-2
      type=filesystem
      
      if ! findmnt "/dev/disk/by-partlabel/disk-data-2-volumes" "/mnt/var/lib/longhorn-2" >/dev/null 2>&1; then
        mount "/dev/disk/by-partlabel/disk-data-2-volumes" "/mnt/var/lib/longhorn-2" \
          -t "ext4" \
          -o noatime -o nofail \
          -o X-mount.mkdir
      fi
      
      
    )
    
    
  )
  
  
)
