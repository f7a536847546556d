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

  # systemd-boot writes one ESP. A switch that cannot write the other one would leave a disk that boots an old system.
  copyEsp = pkgs.writeShellApplication {
    name = "hatrack-copy-esp";
    runtimeInputs = [
      pkgs.rsync
      pkgs.util-linux
    ];
    text = ''
      for esp in ${toString mirrors}; do
        mountpoint --quiet "$esp" || {
          echo "$esp is not mounted: mount it, or replace its disk, before the next switch" >&2
          exit 1
        }
      done
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
  system.build.copyEsp = copyEsp;

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
    initrd.systemd.enable = lib.mkIf encrypt true;
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
