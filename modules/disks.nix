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

  options.hatrack.disks.requireIds = lib.mkOption {
    type = lib.types.bool;
    default = true;
    internal = true;
    description = "Whether a disk must be named by its id; the disks of disko's own tests are named by their place.";
  };

  config = {
    assertions = lib.optionals config.hatrack.disks.requireIds (
      lib.mapAttrsToList (name: disk: {
        assertion = false;
        message = "disko.devices.disk.${name}.device is ${disk.device}, which may be another disk after the next boot: use its name below /dev/disk/by-id (ls -l /dev/disk/by-id).";
      }) byPosition
    );

    disko.tests.extraConfig.hatrack.disks.requireIds = false;
  };
}
