# The root on ZFS over two disks. Each carries an ESP of its own and boots alone.
{
  # Two names below /dev/disk/by-id.
  devices,
  # Whether both halves are under LUKS, opened by the TPM.
  encrypt ? false,
}:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  mirrors = [
    "/boot"
    "/boot-mirror"
  ];

  half = index: device: rec {
    name = "system-${toString (index + 1)}";
    value = {
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
              mountpoint = lib.elemAt mirrors index;
              # With one disk gone the machine still boots, from the other.
              mountOptions = [
                "umask=0077"
                "nofail"
                "x-systemd.device-timeout=10s"
              ];
            };
          };
          root = {
            size = "100%";
            content =
              if encrypt then
                import ./encrypted.nix {
                  inherit name;
                  content = pool;
                  # With one disk gone the machine still boots, from the other.
                  options = [ "x-systemd.device-timeout=30s" ];
                }
              else
                pool;
          };
        };
      };
    };
  };
  pool = {
    type = "zfs";
    pool = "system";
  };

  dataset = mountpoint: {
    type = "zfs_fs";
    inherit mountpoint;
    options.mountpoint = "legacy";
  };

  # A switch that could write one ESP alone would leave a disk that boots an old system.
  checkEsps = pkgs.writeShellApplication {
    name = "hatrack-check-esps";
    runtimeInputs = [ pkgs.util-linux ];
    text = ''
      for esp in ${toString mirrors}; do
        mountpoint --quiet "$esp" || {
          echo "$esp is not mounted: mount it, or replace its disk, before the next switch" >&2
          exit 1
        }
      done
    '';
  };
  # systemd-boot writes one of them. It is run without a PATH.
  copyEsp = pkgs.writeShellApplication {
    name = "hatrack-copy-esp";
    runtimeInputs = [
      checkEsps
      pkgs.coreutils
      pkgs.rsync
    ];
    text = ''
      hatrack-check-esps
      # Timestamps of FAT are even seconds; it has neither owners nor modes.
      rsync --recursive --times --modify-window=2 --delete ${lib.head mirrors}/ ${lib.last mirrors}/
      sync --file-system ${lib.last mirrors}
    '';
  };
in
{
  assertions = [
    {
      assertion = lib.length (lib.unique devices) == 2;
      message = "disko/zfs-mirror.nix of ${config.networking.hostName} needs two different disks in devices, and got ${toString (lib.length (lib.unique devices))}.";
    }
  ];

  hatrack.zfs.enable = true;
  system.build = { inherit checkEsps copyEsp; };
  # Before systemd-boot writes anything.
  system.preSwitchChecks.hatrack-esps = lib.getExe checkEsps;

  boot = {
    loader = {
      systemd-boot = {
        enable = true;
        configurationLimit = lib.mkDefault 10;
        editor = false;
        extraInstallCommands = lib.getExe copyEsp;
      };
      # The firmware finds both disks by their fallback path, whichever of them is there.
      efi.canTouchEfiVariables = true;
    };
    initrd.systemd = lib.mkIf encrypt {
      enable = true;
      # The import gives up after a minute, which is short for typing two passphrases.
      services.zfs-import-system.after = [ "cryptsetup.target" ];
    };
  };

  disko.devices = {
    disk = lib.listToAttrs (lib.imap0 half devices);
    zpool.system = {
      type = "zpool";
      mode = "mirror";
      options = {
        ashift = "12";
        autotrim = "on";
        cachefile = "none";
      };
      rootFsOptions = {
        acltype = "posixacl";
        atime = "off";
        compression = "zstd";
        mountpoint = "none";
        xattr = "sa";
      };
      datasets = {
        root = dataset "/";
        nix = dataset "/nix";
        var = dataset "/var";
      };
    };
  };
}
