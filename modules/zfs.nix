# ZFS, where a disk layout uses it.
{
  config,
  lib,
  ...
}:
let
  cfg = config.hatrack.zfs;
in
{
  _class = "nixos";

  options.hatrack.zfs = {
    enable = lib.mkEnableOption "ZFS, with scrubs and trims; the layouts on ZFS set it";

    arcMax = lib.mkOption {
      type = lib.types.nullOr lib.types.ints.positive;
      default = null;
      example = 4 * 1024 * 1024 * 1024;
      description = "Most memory in bytes that the cache of ZFS may take; ZFS decides if null.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = config.networking.hostId != null;
        message = "networking.hostId of ${config.networking.hostName} is not set: ZFS refuses a pool that another machine may use. Set it to eight hexadecimal digits (head -c4 /dev/urandom | od -A none -t x4).";
      }
    ];

    boot = {
      supportedFilesystems = [ "zfs" ];
      # A pool that was last used elsewhere needs a person's decision.
      zfs.forceImportRoot = false;
      kernelParams = lib.optional (cfg.arcMax != null) "zfs.zfs_arc_max=${toString cfg.arcMax}";
    };
    services.zfs = {
      autoScrub.enable = true;
      trim.enable = true;
    };
  };
}
