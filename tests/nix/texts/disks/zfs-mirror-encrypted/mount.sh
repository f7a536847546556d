#!/usr/bin/env bash
set -efux
# first create the necessary devices
(
  destroy=1
  device=/dev/disk/by-id/virtio-system-1
  imageName=system-1
  imageSize=2G
  name=system-1
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-system-1
    efiGptPartitionFirst=1
    type=gpt
    
    (
      declare -a additionalKeyFiles=()
      askPassword=''
      device=/dev/disk/by-partlabel/disk-system-1-root
      declare -a extraFormatArgs=()
      declare -a extraOpenArgs=()
      initrdUnlock=1
      keyFile=''
      name=system-1
      passwordFile=/tmp/disk.key
      declare -A settings=([allowDiscards]=1 [crypttabExtraOpts]='tpm2-device=auto x-systemd.device-timeout=30s')
      type=luks
      
      if ! cryptsetup status "system-1" >/dev/null 2>/dev/null; then
        
        cryptsetup open "/dev/disk/by-partlabel/disk-system-1-root" "system-1" \
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
  device=/dev/disk/by-id/virtio-system-2
  imageName=system-2
  imageSize=2G
  name=system-2
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-system-2
    efiGptPartitionFirst=1
    type=gpt
    
    (
      declare -a additionalKeyFiles=()
      askPassword=''
      device=/dev/disk/by-partlabel/disk-system-2-root
      declare -a extraFormatArgs=()
      declare -a extraOpenArgs=()
      initrdUnlock=1
      keyFile=''
      name=system-2
      passwordFile=/tmp/disk.key
      declare -A settings=([allowDiscards]=1 [crypttabExtraOpts]='tpm2-device=auto x-systemd.device-timeout=30s')
      type=luks
      
      if ! cryptsetup status "system-2" >/dev/null 2>/dev/null; then
        
        cryptsetup open "/dev/disk/by-partlabel/disk-system-2-root" "system-2" \
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
  declare -a mountOptions=(defaults)
  mountpoint=''
  name=system
  declare -A options=([ashift]=12 [autotrim]=on [cachefile]=none)
  declare -A rootFsOptions=([acltype]=posixacl [atime]=off [compression]=zstd [mountpoint]=none [xattr]=sa)
  type=zpool
  
  zpool list "system" >/dev/null 2>/dev/null ||
    zpool import -l -R /mnt "system"
  
  
  
  
)


# and then mount the filesystems in dependency order
(
  declare -a mountOptions=(defaults)
  mountpoint=''
  name=system
  declare -A options=([ashift]=12 [autotrim]=on [cachefile]=none)
  declare -A rootFsOptions=([acltype]=posixacl [atime]=off [compression]=zstd [mountpoint]=none [xattr]=sa)
  type=zpool
  
  (
    declare -a mountOptions=(defaults)
    mountpoint=/
    name=root
    declare -A options=([mountpoint]=legacy)
    type=zfs_fs
    
    if ! findmnt system/root "/mnt/" >/dev/null 2>&1; then
      mount system/root "/mnt/" \
        -o X-mount.mkdir \
        -o defaults \
         \
        -t zfs
    fi
    
    
  )
  
  
)
(
  destroy=1
  device=/dev/disk/by-id/virtio-system-1
  imageName=system-1
  imageSize=2G
  name=system-1
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-system-1
    efiGptPartitionFirst=1
    type=gpt
    
    (
      device=/dev/disk/by-partlabel/disk-system-1-ESP
      declare -a extraArgs=()
      format=vfat
      declare -a mountOptions=('umask=0077' nofail 'x-systemd.device-timeout=10s')
      mountpoint=/boot
      type=filesystem
      
      if ! findmnt "/dev/disk/by-partlabel/disk-system-1-ESP" "/mnt/boot" >/dev/null 2>&1; then
        mount "/dev/disk/by-partlabel/disk-system-1-ESP" "/mnt/boot" \
          -t "vfat" \
          -o 'umask=0077' -o nofail -o 'x-systemd.device-timeout=10s' \
          -o X-mount.mkdir
      fi
      
      
    )
    
    
  )
  
  
)
(
  destroy=1
  device=/dev/disk/by-id/virtio-system-2
  imageName=system-2
  imageSize=2G
  name=system-2
  type=disk
  
  (
    device=/dev/disk/by-id/virtio-system-2
    efiGptPartitionFirst=1
    type=gpt
    
    (
      device=/dev/disk/by-partlabel/disk-system-2-ESP
      declare -a extraArgs=()
      format=vfat
      declare -a mountOptions=('umask=0077' nofail 'x-systemd.device-timeout=10s')
      mountpoint=/boot-mirror
      type=filesystem
      
      if ! findmnt "/dev/disk/by-partlabel/disk-system-2-ESP" "/mnt/boot-mirror" >/dev/null 2>&1; then
        mount "/dev/disk/by-partlabel/disk-system-2-ESP" "/mnt/boot-mirror" \
          -t "vfat" \
          -o 'umask=0077' -o nofail -o 'x-systemd.device-timeout=10s' \
          -o X-mount.mkdir
      fi
      
      
    )
    
    
  )
  
  
)
(
  declare -a mountOptions=(defaults)
  mountpoint=''
  name=system
  declare -A options=([ashift]=12 [autotrim]=on [cachefile]=none)
  declare -A rootFsOptions=([acltype]=posixacl [atime]=off [compression]=zstd [mountpoint]=none [xattr]=sa)
  type=zpool
  
  (
    declare -a mountOptions=(defaults)
    mountpoint=/nix
    name=nix
    declare -A options=([mountpoint]=legacy)
    type=zfs_fs
    
    if ! findmnt system/nix "/mnt/nix" >/dev/null 2>&1; then
      mount system/nix "/mnt/nix" \
        -o X-mount.mkdir \
        -o defaults \
         \
        -t zfs
    fi
    
    
  )
  
  
)
(
  declare -a mountOptions=(defaults)
  mountpoint=''
  name=system
  declare -A options=([ashift]=12 [autotrim]=on [cachefile]=none)
  declare -A rootFsOptions=([acltype]=posixacl [atime]=off [compression]=zstd [mountpoint]=none [xattr]=sa)
  type=zpool
  
  (
    declare -a mountOptions=(defaults)
    mountpoint=/var
    name=var
    declare -A options=([mountpoint]=legacy)
    type=zfs_fs
    
    if ! findmnt system/var "/mnt/var" >/dev/null 2>&1; then
      mount system/var "/mnt/var" \
        -o X-mount.mkdir \
        -o defaults \
         \
        -t zfs
    fi
    
    
  )
  
  
)
