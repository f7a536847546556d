# Founds the cluster. Its root is mirrored, so that a dead disk is not a dead cluster.
{
  imports = [
    (import ../../disko/zfs-mirror.nix {
      devices = [
        "/dev/disk/by-id/nvme-eui.0025385b11b1a6f1"
        "/dev/disk/by-id/nvme-eui.0025385b11b1a6f2"
      ];
    })
  ];

  hatrack = {
    host.address = "10.0.0.1";
    longhorn.storage = false;
    secrets.file = ../kubernetes.secrets.yaml;
  };

  networking.hostId = "7d1f93c4";
  hardware.facter.reportPath = ./facter.json;
  system.stateVersion = "26.05";
}
