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
    
    (
      declare -a additionalKeyFiles=()
      askPassword=''
      device=/dev/disk/by-partlabel/disk-data-1-volumes
      declare -a extraFormatArgs=()
      declare -a extraOpenArgs=()
      initrdUnlock=''
      keyFile=''
      name=data-1
      passwordFile=/tmp/disk.key
      declare -A settings=([allowDiscards]=1 [crypttabExtraOpts]='tpm2-device=auto')
      type=luks
      
      if ! cryptsetup status "data-1" >/dev/null 2>/dev/null; then
        
        cryptsetup open "/dev/disk/by-partlabel/disk-data-1-volumes" "data-1" \
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
      declare -a additionalKeyFiles=()
      askPassword=''
      device=/dev/disk/by-partlabel/disk-data-2-volumes
      declare -a extraFormatArgs=()
      declare -a extraOpenArgs=()
      initrdUnlock=''
      keyFile=''
      name=data-2
      passwordFile=/tmp/disk.key
      declare -A settings=([allowDiscards]=1 [crypttabExtraOpts]='tpm2-device=auto')
      type=luks
      
      if ! cryptsetup status "data-2" >/dev/null 2>/dev/null; then
        
        cryptsetup open "/dev/disk/by-partlabel/disk-data-2-volumes" "data-2" \
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
      declare -a additionalKeyFiles=()
      askPassword=''
      device=/dev/disk/by-partlabel/disk-data-1-volumes
      declare -a extraFormatArgs=()
      declare -a extraOpenArgs=()
      initrdUnlock=''
      keyFile=''
      name=data-1
      passwordFile=/tmp/disk.key
      declare -A settings=([allowDiscards]=1 [crypttabExtraOpts]='tpm2-device=auto')
      type=luks
      
      (
        device=/dev/mapper/data-1
        declare -a extraArgs=()
        format=ext4
        declare -a mountOptions=(noatime nofail)
        mountpoint=/var/lib/longhorn
        type=filesystem
        
        if ! findmnt "/dev/mapper/data-1" "/mnt/var/lib/longhorn" >/dev/null 2>&1; then
          mount "/dev/mapper/data-1" "/mnt/var/lib/longhorn" \
            -t "ext4" \
            -o noatime -o nofail \
            -o X-mount.mkdir
        fi
        
        
      )
      
      
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
      declare -a additionalKeyFiles=()
      askPassword=''
      device=/dev/disk/by-partlabel/disk-data-2-volumes
      declare -a extraFormatArgs=()
      declare -a extraOpenArgs=()
      initrdUnlock=''
      keyFile=''
      name=data-2
      passwordFile=/tmp/disk.key
      declare -A settings=([allowDiscards]=1 [crypttabExtraOpts]='tpm2-device=auto')
      type=luks
      
      (
        device=/dev/mapper/data-2
        declare -a extraArgs=()
        format=ext4
        declare -a mountOptions=(noatime nofail)
        mountpoint=/var/lib/longhorn-2
        type=filesystem
        
        if ! findmnt "/dev/mapper/data-2" "/mnt/var/lib/longhorn-2" >/dev/null 2>&1; then
          mount "/dev/mapper/data-2" "/mnt/var/lib/longhorn-2" \
            -t "ext4" \
            -o noatime -o nofail \
            -o X-mount.mkdir
        fi
        
        
      )
      
      
    )
    
    
  )
  
  
)
