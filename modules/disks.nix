# A disk is named by what it is, not by the order in which the kernel found it.
{
  config,
  lib,
  ...
}:
let
  disks = config.disko.devices.disk;
  byPosition = lib.filterAttrs (_: disk: !lib.hasPrefix "/dev/disk/by-id/" disk.device) disks;
  partitions = lib.filterAttrs (
    _: disk: builtins.match "/dev/disk/by-id/.*-part[0-9]+" disk.device != null
  ) disks;
  unnamed = lib.filterAttrs (_: disk: lib.hasSuffix "/REPLACE-ME" disk.device) disks;
  disksOfPeers = lib.concatMap (peer: peer.disks or [ ]) (
    lib.attrValues (removeAttrs config.hatrack.cluster.hosts [ config.hatrack.host.name ])
  );
  namesOf = device: lib.attrNames (lib.filterAttrs (_: disk: disk.device == device) disks);
  sharing = lib.unique (
    lib.filter (names: lib.length names > 1) (map (disk: namesOf disk.device) (lib.attrValues disks))
  );

  # The disks of the hardware report, each with all its names. Firmware can hide a disk from the installer, and a disk that was
  # replaced is in no report yet: a disk that is missing there is worth a warning, not a refusal.
  report = config.hardware.facter.reportPath;
  reported = lib.optionals (report != null) ((lib.importJSON report).hardware.disk or [ ]);
  namesInReport = lib.concatMap (disk: disk.unix_device_names or [ ]) reported;
  idsInReport = lib.concatMap (
    disk: lib.take 1 (lib.filter (lib.hasPrefix "/dev/disk/by-id/") (disk.unix_device_names or [ ]))
  ) reported;
  unreported = lib.filterAttrs (_: disk: !lib.elem disk.device namesInReport) disks;

  # File systems and swap that no layout made. Names that stay lie in a folder below /dev, such as disk, mapper or zvol.
  isPosition =
    device: device != null && builtins.match "/dev/(sd|hd|vd|xvd|nvme|mmcblk)[^/]*" device != null;
  mounted =
    lib.mapAttrsToList (place: mount: {
      option = "fileSystems.\"${place}\".device";
      inherit (mount) device;
    }) config.fileSystems
    ++ map (swap: {
      option = "swapDevices";
      inherit (swap) device;
    }) config.swapDevices;

  # What is mounted at / where nothing says it: of all that NixOS would ask for then, one sentence is left.
  nothing = "/dev/disk/by-id/REPLACE-ME";
  isUnlaid = config.fileSystems."/".device == nothing;
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
    # Weaker than the default of an option.
    fileSystems."/" = lib.mkOverride 2000 {
      device = nothing;
      fsType = "none";
    };
    boot.loader.grub.enable = lib.mkIf isUnlaid (lib.mkDefault false);

    assertions = [
      {
        assertion = !isUnlaid;
        message = "${config.networking.hostName} has no disk layout: put disks.single-disk { device = \"/dev/disk/by-id/…\"; } or disks.zfs-mirror into its modules, or set fileSystems.\"/\" yourself.";
      }
    ]
    ++ lib.optionals config.hatrack.disks.requireIds (
      lib.mapAttrsToList (name: disk: {
        assertion = false;
        message = "disko.devices.disk.${name}.device of ${config.networking.hostName} is ${disk.device}, which may be another disk after the next boot: use its name below /dev/disk/by-id (ls -l /dev/disk/by-id).";
      }) byPosition
      ++ lib.mapAttrsToList (name: disk: {
        assertion = false;
        message = "disko.devices.disk.${name}.device of ${config.networking.hostName} is ${disk.device}, a partition: name the whole disk, without -part.";
      }) partitions
      ++ lib.mapAttrsToList (name: disk: {
        assertion = !lib.elem disk.device disksOfPeers;
        message = "disko.devices.disk.${name}.device of ${config.networking.hostName} is ${disk.device}, which another host names as well: each disk is in one machine, so name this one's.";
      }) (removeAttrs disks (lib.attrNames (unnamed // byPosition)))
      ++ lib.mapAttrsToList (name: _: {
        assertion = false;
        message = "disko.devices.disk.${name}.device of ${config.networking.hostName} is not filled in: put the name of the disk in place of REPLACE-ME (ls -l /dev/disk/by-id on the machine).";
      }) unnamed
      ++ map (names: {
        assertion = false;
        message = "${disks.${lib.head names}.device} of ${config.networking.hostName} is disko.devices.disk.${lib.concatStringsSep " and disko.devices.disk." names}: one would erase the other, so name another disk.";
      }) sharing
      ++ map (mount: {
        assertion = !isPosition mount.device;
        message = "${mount.option} of ${config.networking.hostName} is ${toString mount.device}, which may be another disk after the next boot: use a name below /dev/disk.";
      }) mounted
    );

    warnings = lib.optionals (config.hatrack.disks.requireIds && idsInReport != [ ]) (
      lib.mapAttrsToList (
        name: disk:
        "disko.devices.disk.${name}.device of ${config.networking.hostName} is ${disk.device}, which its hardware report does not have: that has ${lib.concatStringsSep " and " idsInReport}. Correct the name or, if the disk is newer than the report, make the report anew (nixos-facter)."
      ) unreported
    );

    disko.tests.extraConfig.hatrack.disks.requireIds = false;
  };
}
