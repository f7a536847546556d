# Longhorn: replicated volumes on disks of their own.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hatrack.longhorn;
  inherit (config.hatrack) k3s;

  preflight = pkgs.writeShellApplication {
    name = "hatrack-longhorn-preflight";
    runtimeInputs = [
      pkgs.systemd
      pkgs.util-linux
    ];
    text = ''
      fail() {
        echo "Longhorn cannot keep volumes here: $1" >&2
        exit 1
      }
      mountpoint --quiet ${lib.escapeShellArg cfg.dataPath} ||
        fail ${lib.escapeShellArg "no disk is mounted at ${cfg.dataPath}; volumes would fill the system's disk"}
      [ -d /sys/module/iscsi_tcp ] || fail "the kernel has not loaded iscsi_tcp"
      systemctl is-active --quiet iscsid.service || fail "iscsid.service does not run"
    '';
  };
in
{
  _class = "nixos";

  options.hatrack.longhorn = {
    enable = lib.mkEnableOption "Longhorn: the machine can mount its volumes";

    storage = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the machine keeps volumes on a disk of its own, besides mounting them.";
    };

    dataPath = mkOption {
      type = types.path;
      default = "/var/lib/longhorn";
      description = "Where the disk for volumes is mounted.";
    };

    version = mkOption {
      type = types.str;
      default = "1.12.0";
      description = "Version of the Helm chart, which is that of Longhorn.";
    };

    replicas = mkOption {
      type = types.ints.between 1 10;
      default = 2;
      description = "How many machines hold a copy of each volume.";
    };
  };

  config = lib.mkIf (cfg.enable && k3s.enable) {
    assertions = [
      {
        assertion = cfg.storage -> config.fileSystems ? ${cfg.dataPath};
        message = "hatrack.longhorn.storage needs a disk at ${cfg.dataPath}: add disko/data-disks.nix to the host, or set hatrack.longhorn.storage = false.";
      }
    ];

    hatrack.k3s.labels = lib.mkIf cfg.storage { "node.longhorn.io/create-default-disk" = "true"; };

    services.openiscsi = {
      enable = true;
      name = "iqn.2026-11.io.zeta.society:${config.networking.hostName}";
    };
    boot = {
      kernelModules = [
        "dm_crypt"
        "iscsi_tcp"
      ];
      # Volumes that many pods write are exported over NFS.
      supportedFilesystems = [ "nfs" ];
    };

    # Longhorn enters the host's namespaces and looks for its tools where other distributions have them.
    systemd.tmpfiles.rules = [ "L+ /usr/local/bin - - - - /run/current-system/sw/bin" ];
    environment.systemPackages = [
      pkgs.cryptsetup
      pkgs.nfs-utils
    ];

    system.build.longhornPreflight = preflight;
    systemd.services.hatrack-longhorn-preflight = lib.mkIf cfg.storage {
      description = "What Longhorn needs to keep volumes on this machine";
      wantedBy = [ "multi-user.target" ];
      after = [ "iscsid.service" ];
      # The disk may come late: a dead one does not stop a boot. So no target says that it is mounted.
      unitConfig.RequiresMountsFor = cfg.dataPath;
      before = [ "k3s.service" ];
      serviceConfig = import ../lib/hardening.nix // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = lib.getExe preflight;
        # Root without a right beyond its files: the service manager answers it whatever becomes of D-Bus.
        IPAddressDeny = "any";
        PrivateDevices = true;
        PrivateNetwork = true;
        RestrictAddressFamilies = "AF_UNIX";
      };
    };

    services.k3s.manifests.longhorn = lib.mkIf (k3s.role == "server") {
      content = {
        apiVersion = "helm.cattle.io/v1";
        kind = "HelmChart";
        metadata = {
          name = "longhorn";
          namespace = "kube-system";
        };
        spec = {
          repo = "https://charts.longhorn.io";
          chart = "longhorn";
          inherit (cfg) version;
          targetNamespace = "longhorn-system";
          createNamespace = true;
          valuesContent = builtins.toJSON {
            defaultSettings = {
              createDefaultDiskLabeledNodes = true;
              defaultDataPath = cfg.dataPath;
            };
            persistence.defaultClassReplicaCount = cfg.replicas;
          };
        };
      };
    };
  };
}
