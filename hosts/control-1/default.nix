# Founds the cluster. Its root is mirrored, so that a dead disk is not a dead cluster.
{
  imports = [
    (import ../../disko/zfs-mirror.nix {
      devices = [
        "/dev/disk/by-id/ata-SAMSUNG_MZ7L3960HCJR-00A07_S662NN0T100201"
        "/dev/disk/by-id/ata-SAMSUNG_MZ7L3960HCJR-00A07_S662NN0T100202"
      ];
    })
  ];

  hatrack = {
    host.address = "10.0.0.1";
    longhorn.storage = false;
    secrets.file = ./secrets.yaml;
  };
  networking.hostId = "7d1f93c4";
  hardware.facter.reportPath = ./facter.json;
  system.stateVersion = "26.05";
}
