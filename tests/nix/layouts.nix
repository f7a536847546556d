# Every disk layout, on disks whose names a virtual machine can give: the serial number of a virtio disk is part of them.
{ disks }:
let
  disk = serial: "/dev/disk/by-id/virtio-${serial}";
  pair = kind: [
    (disk "${kind}-1")
    (disk "${kind}-2")
  ];
  plain = {
    single-disk = disks.single-disk { device = disk "system"; };
    zfs-mirror = disks.zfs-mirror { devices = pair "system"; };
    data-disks = disks.data-disks { devices = pair "data"; };
  };
  encrypted = {
    single-disk-encrypted = disks.single-disk {
      device = disk "system";
      encrypt = true;
    };
    zfs-mirror-encrypted = disks.zfs-mirror {
      devices = pair "system";
      encrypt = true;
    };
    data-disks-encrypted = disks.data-disks {
      devices = pair "data";
      encrypt = true;
    };
  };
in
plain // encrypted
