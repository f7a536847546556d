# Disks for Longhorn's volumes, apart from the system's.
{
  # Names below /dev/disk/by-id. The first is mounted where Longhorn looks by itself, the others beside it.
  devices,
  # Whether they are under LUKS, opened by the TPM.
  encrypt ? false,
}:
{ config, lib, ... }:
let
  inherit (config.hatrack.longhorn) dataPath;
  place = index: if index == 0 then dataPath else "${dataPath}-${toString (index + 1)}";

  disk = index: device: rec {
    name = "data-${toString (index + 1)}";
    value = {
      type = "disk";
      inherit device;
      content = {
        type = "gpt";
        partitions.volumes = {
          size = "100%";
          content = if encrypt then import ./encrypted.nix name (volumes index) else volumes index;
        };
      };
    };
  };
  volumes = index: {
    type = "filesystem";
    format = "ext4";
    mountpoint = place index;
    # A dead data disk is a matter for Longhorn, not a reason to stop booting.
    mountOptions = [
      "noatime"
      "nofail"
    ];
  };
in
{
  disko.devices.disk = lib.listToAttrs (lib.imap0 disk devices);
}
