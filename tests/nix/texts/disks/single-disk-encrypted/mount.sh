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
    
    (
      declare -a additionalKeyFiles=()
      askPassword=''
      device=/dev/disk/by-partlabel/disk-system-root
      declare -a extraFormatArgs=()
      declare -a extraOpenArgs=()
      initrdUnlock=1
      keyFile=''
      name=system
      passwordFile=/tmp/disk.key
      declare -A settings=([allowDiscards]=1 [crypttabExtraOpts]='tpm2-device=auto')
      type=luks
      
      if ! cryptsetup status "system" >/dev/null 2>/dev/null; then
        
        cryptsetup open "/dev/disk/by-partlabel/disk-system-root" "system" \
        --allow-discards \
         \
         \
        --key-file <(set +x; echo -n "$(cat /tmp/disk.key)"; set -x) \
       \
       \
       \
      
      fi
      
      
      
    )
    
    
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
      declare -a additionalKeyFiles=()
      askPassword=''
      device=/dev/disk/by-partlabel/disk-system-root
      declare -a extraFormatArgs=()
      declare -a extraOpenArgs=()
      initrdUnlock=1
      keyFile=''
      name=system
      passwordFile=/tmp/disk.key
      declare -A settings=([allowDiscards]=1 [crypttabExtraOpts]='tpm2-device=auto')
      type=luks
      
      (
        device=/dev/mapper/system
        declare -a extraArgs=()
        format=ext4
        declare -a mountOptions=(noatime)
        mountpoint=/
        type=filesystem
        
        if ! findmnt "/dev/mapper/system" "/mnt/" >/dev/null 2>&1; then
          mount "/dev/mapper/system" "/mnt/" \
            -t "ext4" \
            -o noatime \
            -o X-mount.mkdir
        fi
        
        
      )
      
      
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
