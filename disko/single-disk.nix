# One disk: the ESP, and the rest for the system.
{
  # Name below /dev/disk/by-id.
  device,
  # Whether the root is under LUKS, opened by the TPM.
  encrypt ? false,
}:
{ lib, ... }:
let
  root = {
    type = "filesystem";
    format = "ext4";
    mountpoint = "/";
    mountOptions = [ "noatime" ];
  };
in
{
  boot = {
    loader.systemd-boot.enable = true;
    loader.systemd-boot.configurationLimit = lib.mkDefault 10;
    loader.systemd-boot.editor = false;
    loader.efi.canTouchEfiVariables = true;
    initrd.systemd.enable = lib.mkIf encrypt true;
  };

  disko.devices.disk.system = {
    type = "disk";
    inherit device;
    content = {
      type = "gpt";
      partitions = {
        ESP = {
          size = "1G";
          type = "EF00";
          content = {
            type = "filesystem";
            format = "vfat";
            mountpoint = "/boot";
            mountOptions = [ "umask=0077" ];
          };
        };
        root = {
          size = "100%";
          content =
            if encrypt then
              import ./encrypted.nix {
                name = "system";
                content = root;
              }
            else
              root;
        };
      };
    };
  };
}
