#!/usr/bin/env bash
set -efux

disko_devices_dir=$(mktemp -d)
trap 'rm -rf "$disko_devices_dir"' EXIT
mkdir -p "$disko_devices_dir"

( # disk system-1 /dev/disk/by-id/virtio-system-1   #
  destroy=1
  device=/dev/disk/by-id/virtio-system-1
  imageName=system-1
  imageSize=2G
  name=system-1
  type=disk
  
  ( # gpt  /dev/disk/by-id/virtio-system-1   #
    device=/dev/disk/by-id/virtio-system-1
    efiGptPartitionFirst=1
    type=gpt
    
    if ! blkid "/dev/disk/by-id/virtio-system-1" >&2; then
      sgdisk --clear "/dev/disk/by-id/virtio-system-1"
    fi
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
    --new=1:0:+1G \
     --partition-guid="1:R" \
    --change-name="1:disk-system-1-ESP" \
    --typecode=1:EF00 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-system-1" \
    
    then
      sgdisk --partition-guid="1:R" \
    --change-name="1:disk-system-1-ESP" \
    --typecode=1:EF00 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-system-1" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-system-1" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
    --new=2:0:-0 \
     --partition-guid="2:R" \
    --change-name="2:disk-system-1-root" \
    --typecode=2:8300 \
    --attributes=2:=:0 \
     \
    "/dev/disk/by-id/virtio-system-1" \
    
    then
      sgdisk --partition-guid="2:R" \
    --change-name="2:disk-system-1-root" \
    --typecode=2:8300 \
    --attributes=2:=:0 \
     \
    "/dev/disk/by-id/virtio-system-1" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-system-1" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    
    
    
    
    
    ( # filesystem  /dev/disk/by-partlabel/disk-system-1-ESP vfat /boot #
      device=/dev/disk/by-partlabel/disk-system-1-ESP
      declare -a extraArgs=()
      format=vfat
      declare -a mountOptions=('umask=0077' nofail 'x-systemd.device-timeout=10s')
      mountpoint=/boot
      type=filesystem
      
      if ! (blkid "/dev/disk/by-partlabel/disk-system-1-ESP" | grep -q 'TYPE='); then
        mkfs.vfat \
           \
          "/dev/disk/by-partlabel/disk-system-1-ESP"
      fi
      
      
    )
    
    ( # luks system-1 /dev/disk/by-partlabel/disk-system-1-root   #
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
      
      if ! blkid "/dev/disk/by-partlabel/disk-system-1-root" >/dev/null || ! cryptsetup isLuks "/dev/disk/by-partlabel/disk-system-1-root"; then
        
        cryptsetup -q luksFormat "/dev/disk/by-partlabel/disk-system-1-root"  --key-file <(set +x; echo -n "$(cat /tmp/disk.key)"; set -x) \
       \
       \
      
      fi
      
      if ! cryptsetup status "system-1" >/dev/null; then
        cryptsetup open "/dev/disk/by-partlabel/disk-system-1-root" "system-1" \
        --allow-discards \
         \
         \
        --key-file <(set +x; echo -n "$(cat /tmp/disk.key)"; set -x) \
       \
       \
       \
       --persistent
      fi
      
      
      ( # zfs  /dev/mapper/system-1   #
        device=/dev/mapper/system-1
        pool=system
        type=zfs
        
        echo "/dev/mapper/system-1" >>"$disko_devices_dir"/zfs_system
        
        
      )
      
      
      if [ -e /dev/tpmrm0 ]; then
        (
          set +x
          PASSWORD=$(cat /tmp/disk.key) systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs=7 "$device"
        )
      fi
      
    )
    
    
    
    
  )
  
  
)
( # disk system-2 /dev/disk/by-id/virtio-system-2   #
  destroy=1
  device=/dev/disk/by-id/virtio-system-2
  imageName=system-2
  imageSize=2G
  name=system-2
  type=disk
  
  ( # gpt  /dev/disk/by-id/virtio-system-2   #
    device=/dev/disk/by-id/virtio-system-2
    efiGptPartitionFirst=1
    type=gpt
    
    if ! blkid "/dev/disk/by-id/virtio-system-2" >&2; then
      sgdisk --clear "/dev/disk/by-id/virtio-system-2"
    fi
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
    --new=1:0:+1G \
     --partition-guid="1:R" \
    --change-name="1:disk-system-2-ESP" \
    --typecode=1:EF00 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-system-2" \
    
    then
      sgdisk --partition-guid="1:R" \
    --change-name="1:disk-system-2-ESP" \
    --typecode=1:EF00 \
    --attributes=1:=:0 \
     \
    "/dev/disk/by-id/virtio-system-2" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-system-2" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    # try to create the partition, if it fails, try to change the type and name
    if ! sgdisk --align-end  \
    --new=2:0:-0 \
     --partition-guid="2:R" \
    --change-name="2:disk-system-2-root" \
    --typecode=2:8300 \
    --attributes=2:=:0 \
     \
    "/dev/disk/by-id/virtio-system-2" \
    
    then
      sgdisk --partition-guid="2:R" \
    --change-name="2:disk-system-2-root" \
    --typecode=2:8300 \
    --attributes=2:=:0 \
     \
    "/dev/disk/by-id/virtio-system-2" \
    
    fi
    # ensure /dev/disk/by-path/..-partN exists before continuing
    partprobe "/dev/disk/by-id/virtio-system-2" || : # sometimes partprobe fails, but the partitions are still up2date
    udevadm trigger --subsystem-match=block
    udevadm settle --timeout 120
    
    
    
    
    
    ( # filesystem  /dev/disk/by-partlabel/disk-system-2-ESP vfat /boot-mirror #
      device=/dev/disk/by-partlabel/disk-system-2-ESP
      declare -a extraArgs=()
      format=vfat
      declare -a mountOptions=('umask=0077' nofail 'x-systemd.device-timeout=10s')
      mountpoint=/boot-mirror
      type=filesystem
      
      if ! (blkid "/dev/disk/by-partlabel/disk-system-2-ESP" | grep -q 'TYPE='); then
        mkfs.vfat \
           \
          "/dev/disk/by-partlabel/disk-system-2-ESP"
      fi
      
      
    )
    
    ( # luks system-2 /dev/disk/by-partlabel/disk-system-2-root   #
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
      
      if ! blkid "/dev/disk/by-partlabel/disk-system-2-root" >/dev/null || ! cryptsetup isLuks "/dev/disk/by-partlabel/disk-system-2-root"; then
        
        cryptsetup -q luksFormat "/dev/disk/by-partlabel/disk-system-2-root"  --key-file <(set +x; echo -n "$(cat /tmp/disk.key)"; set -x) \
       \
       \
      
      fi
      
      if ! cryptsetup status "system-2" >/dev/null; then
        cryptsetup open "/dev/disk/by-partlabel/disk-system-2-root" "system-2" \
        --allow-discards \
         \
         \
        --key-file <(set +x; echo -n "$(cat /tmp/disk.key)"; set -x) \
       \
       \
       \
       --persistent
      fi
      
      
      ( # zfs  /dev/mapper/system-2   #
        device=/dev/mapper/system-2
        pool=system
        type=zfs
        
        echo "/dev/mapper/system-2" >>"$disko_devices_dir"/zfs_system
        
        
      )
      
      
      if [ -e /dev/tpmrm0 ]; then
        (
          set +x
          PASSWORD=$(cat /tmp/disk.key) systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs=7 "$device"
        )
      fi
      
    )
    
    
    
    
  )
  
  
)
( # zpool system    #
  declare -a mountOptions=(defaults)
  mountpoint=''
  name=system
  declare -A options=([ashift]=12 [autotrim]=on [cachefile]=none)
  declare -A rootFsOptions=([acltype]=posixacl [atime]=off [compression]=zstd [mountpoint]=none [xattr]=sa)
  type=zpool
  
  readarray -t zfs_devices < <(cat "$disko_devices_dir/zfs_system")
  if [ ${#zfs_devices[@]} -eq 0 ]; then
    echo "no devices found for zpool system. Did you misspell the pool name?" >&2
    exit 1
  fi
  # Try importing the pool without mounting anything if it exists.
  # This allows us to set mounpoints.
  if zpool import -N -f "system" || zpool list "system"; then
    echo "not creating zpool system as a pool with that name already exists" >&2
  else
    continue=1
    for dev in "${zfs_devices[@]}"; do
      if ! blkid "$dev" >/dev/null; then
        # blkid fails, so device seems empty
        :
      elif (blkid "$dev" -o export | grep '^PTUUID='); then
        echo "device $dev already has a partuuid, skipping creating zpool system" >&2
        continue=0
      elif (blkid "$dev" -o export | grep '^TYPE=zfs_member'); then
        # zfs_member is a zfs partition, so we try to add the device to the pool
        :
      elif (blkid "$dev" -o export | grep '^TYPE='); then
        echo "device $dev already has a partition, skipping creating zpool system" >&2
        continue=0
      fi
    done
    if [ $continue -eq 1 ]; then
      topology=""
      # For shell check
      mode="mirror"
      if [ "$mode" != "prescribed" ]; then
        topology="mirror ${zfs_devices[*]}"
      else
        entries=()
        
        
        
        
        
        
        all_devices=()
        last_type=
        for line in "${entries[@]}"; do
          # lineformat is type mode=device1 device2 device3
          mode="${line%%=*}"
          type="${mode%% *}"
          mode="${mode#"$type "}"
          devs="${line#*=}"
          IFS=' ' read -r -a devices <<< "$devs"
          all_devices+=("${devices[@]}")
          if ! [ "$type" = "$last_type" ]; then
            topology+=" $type"
            last_type="$type"
          fi
          topology+=" ${mode} ${devices[*]}"
        done
        # all_devices sorted should equal zfs_devices sorted
        all_devices_list=$(echo "${all_devices[*]}" | tr ' ' '\n' | sort)
        zfs_devices_list=$(echo "${zfs_devices[*]}" | tr ' ' '\n' | sort)
        if [[ "$all_devices_list" != "$zfs_devices_list" ]]; then
          echo "not all disks accounted for, skipping creating zpool system" >&2
          diff  <(echo "$all_devices_list" ) <(echo "$zfs_devices_list") >&2
          continue=0
        fi
      fi
    fi
    if [ $continue -eq 1 ]; then
      zpool create -f "system" \
        -R /mnt \
         \
        -o ashift=12 -o autotrim=on -o cachefile=none \
        -O acltype=posixacl -O atime=off -O compression=zstd -O mountpoint=none -O xattr=sa \
        ${topology:+ $topology}
      if [[ $(zfs get -H mounted "system" | cut -f3) == "yes" ]]; then
        zfs unmount "system"
      fi
    fi
  fi
  ( # zfs_fs __root    #
    declare -a mountOptions=(defaults)
    mountpoint=''
    name=__root
    declare -A options=([acltype]=posixacl [atime]=off [compression]=zstd [mountpoint]=none [xattr]=sa)
    type=zfs_fs
    
    if ! zfs get type "system" >/dev/null 2>&1; then
      # don't create anything for root dataset of zpools
    true
    
    else
      zfs set -u acltype=posixacl atime=off compression=zstd mountpoint=none xattr=sa "system"
    
    fi
    
    
  )
  ( # zfs_fs nix   /nix #
    declare -a mountOptions=(defaults)
    mountpoint=/nix
    name=nix
    declare -A options=([mountpoint]=legacy)
    type=zfs_fs
    
    if ! zfs get type "system/nix" >/dev/null 2>&1; then
      zfs create -up "system/nix" \
      -o mountpoint=legacy
    
    else
      zfs set -u mountpoint=legacy "system/nix"
    
    fi
    
    
  )
  ( # zfs_fs root   / #
    declare -a mountOptions=(defaults)
    mountpoint=/
    name=root
    declare -A options=([mountpoint]=legacy)
    type=zfs_fs
    
    if ! zfs get type "system/root" >/dev/null 2>&1; then
      zfs create -up "system/root" \
      -o mountpoint=legacy
    
    else
      zfs set -u mountpoint=legacy "system/root"
    
    fi
    
    
  )
  ( # zfs_fs var   /var #
    declare -a mountOptions=(defaults)
    mountpoint=/var
    name=var
    declare -A options=([mountpoint]=legacy)
    type=zfs_fs
    
    if ! zfs get type "system/var" >/dev/null 2>&1; then
      zfs create -up "system/var" \
      -o mountpoint=legacy
    
    else
      zfs set -u mountpoint=legacy "system/var"
    
    fi
    
    
  )
  
  
  
)
