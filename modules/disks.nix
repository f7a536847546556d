# A disk is named by what it is, not by the order in which the kernel found it.
{
  config,
  lib,
  ...
}:
let
  disks = config.disko.devices.disk;
  byPosition = lib.filterAttrs (_: disk: !lib.hasPrefix "/dev/disk/by-id/" disk.device) disks;
in
{
  _class = "nixos";

  assertions = lib.mapAttrsToList (name: disk: {
    assertion = false;
    message = "disko.devices.disk.${name}.device is ${disk.device}, which may be another disk after the next boot: use its name below /dev/disk/by-id (ls -l /dev/disk/by-id).";
  }) byPosition;
}
