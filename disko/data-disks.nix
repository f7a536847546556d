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
  nameOf = index: "data-${toString (index + 1)}";

  disk = index: device: {
    name = nameOf index;
    value = {
      type = "disk";
      inherit device;
      content = {
        type = "gpt";
        partitions.volumes = {
          size = "100%";
          content =
            if encrypt then
              import ./encrypted.nix {
                name = nameOf index;
                content = volumes index;
                early = false;
              }
            else
              volumes index;
        };
      };
    };
  };
  # A dead data disk is a matter for Longhorn, not a reason to stop booting.
  volumes = index: {
    type = "filesystem";
    format = "ext4";
    mountpoint = place index;
    mountOptions = [
      "noatime"
      "nofail"
    ];
  };
  crypttab =
    index: _:
    "${nameOf index} /dev/disk/by-partlabel/disk-${nameOf index}-volumes - discard,nofail,tpm2-device=auto,x-systemd.device-timeout=10s";
in
{
  disko.devices.disk = lib.listToAttrs (lib.imap0 disk devices);
  environment.etc.crypttab = lib.mkIf encrypt {
    text = lib.concatLines (lib.imap0 crypttab devices);
  };
}
