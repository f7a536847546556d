# A card for a Raspberry Pi: `nix build .#nixosConfigurations.NAME.config.system.build.sdImage`.
#
# The host is the same machine before and after its first boot: the card carries the whole system, and the agent
# registers it as soon as the network is there.
{
  config,
  lib,
  modulesPath,
  ...
}:
{
  _class = "nixos";

  imports = [ "${modulesPath}/installer/sd-card/sd-image-aarch64.nix" ];

  image.baseName = lib.mkForce "hatrack-${config.networking.hostName}";
  sdImage.compressImage = lib.mkDefault true;

  # Images bring the tools of every file system; the kernel of the board is often newer than what ZFS builds for.
  boot.supportedFilesystems.zfs = lib.mkForce false;
}
