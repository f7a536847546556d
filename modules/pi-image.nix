# A card for a Raspberry Pi: `nix build .#nixosConfigurations.NAME.config.system.build.sdImage`.
#
# The host is the same machine before and after its first boot: the card carries the whole system, and the agent
# registers it as soon as the network is there.
{
  config,
  lib,
  modulesPath,
  options,
  ...
}:
let
  hasFirmware = options ? hardware.raspberry-pi.firmware;
in
{
  _class = "nixos";

  imports = [ "${modulesPath}/installer/sd-card/sd-image-aarch64.nix" ];

  config = lib.mkMerge [
    {
      image.baseName = lib.mkForce "hatrack-${config.networking.hostName}";
      sdImage = {
        compressImage = lib.mkDefault true;
        # The firmware of all boards, and as much again while a switch renews it.
        firmwareSize = lib.mkDefault 128;
      };

      # Images bring the tools of every file system; the kernel of the board is often newer than what ZFS builds for.
      boot.supportedFilesystems.zfs = lib.mkForce false;
    }

    # nixos-hardware puts the firmware of its board in place of that of the image, and U-Boot only where it is asked to.
    (lib.optionalAttrs hasFirmware {
      hardware.raspberry-pi.firmware = {
        uboot.enable = lib.mkDefault true;
        # A new kernel comes with device trees of its own.
        enable = lib.mkDefault true;
      };
      fileSystems."/boot/firmware".options = lib.mkForce [
        "nofail"
        "umask=0077"
      ];
    })
  ];
}
